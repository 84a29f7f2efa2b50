/**
 * Frames that are put at the end of a bucket's log in one step: into the journal's batch, and from there, before the step
 * is over, into the segment that they belong to, or the segments.
 *
 *     begin ─ frame ─ frame ─ roll ─ frame ─ end        or, when the disk has no room: takeBack
 *
 * @module
 */
import type { Bucket } from "./bucket.ts";
import type { WrittenFrames } from "./group.ts";
import type { Journal } from "./log/journal.ts";
import type { LogEnd } from "./log/journal_format.ts";

export class LogRun {
  readonly #bucket: Bucket;
  readonly #journal: Journal;
  readonly #mark: LogEnd;
  readonly #journalMark: { length: number; recordCount: number };
  /** Where in the segment the record begins that is being put together. */
  #recordOffset = 0;
  /** For a group that wants them: the frames, record by record. */
  readonly #written: WrittenFrames[] | null;
  #term = 0;
  #ends: number[] = [];
  #crcs: number[] = [];
  #from!: LogEnd;

  constructor(bucket: Bucket, journal: Journal, keepsFrames: boolean) {
    this.#bucket = bucket;
    this.#journal = journal;
    this.#mark = bucket.log.mark();
    this.#journalMark = journal.mark();
    this.#written = keepsFrames ? [] : null;
    this.#begin();
  }

  /** Where the log ended before. */
  get from(): LogEnd {
    return this.#mark;
  }

  /**
   * Takes the frame that stands in the journal's batch from `start` on as the next entry. False when it does not fit the
   * segment: then the log rolled, the batch is as it was before the frame, and the frame is to be put there again, since it
   * may say another place.
   * @throws {NoSpace}
   */
  take(start: number, end: number, term: number, crc: number): boolean {
    const { log } = this.#bucket;
    const frameBytes = end - start;
    if (!log.fits(frameBytes)) {
      this.#roll();
      return false;
    }
    this.#journal.length = end;
    log.advance(frameBytes, term, crc);
    if (this.#written !== null) {
      this.#term = term;
      this.#ends.push(log.end.offset - this.#recordOffset);
      this.#crcs.push(crc);
    }
    return true;
  }

  /** Writes what is left. Returns the frames, for a group that wants them. @throws {NoSpace} */
  end(committed: number): readonly WrittenFrames[] {
    this.#endRecord(committed);
    return this.#written ?? [];
  }

  /** As if it had never been. What the bucket's entries gave out is for the caller to take back. */
  takeBack(): void {
    this.#journal.revert(this.#journalMark);
    this.#bucket.takeBack(this.#mark);
  }

  #begin(): void {
    this.#recordOffset = this.#bucket.log.end.offset;
    this.#journal.beginRecord();
    if (this.#written !== null) this.#from = this.#bucket.log.mark();
  }

  #endRecord(committed: number): void {
    const { log, number } = this.#bucket;
    const frames = this.#journal.recordBytes();
    if (frames.length > 0) log.write(frames, this.#recordOffset);
    if (this.#written !== null && frames.length > 0) {
      this.#written.push({
        firstLogIndex: this.#from.logIndex,
        term: this.#term,
        prevChain: this.#from.chain,
        bytes: frames.slice(),
        ends: this.#ends,
        crcs: this.#crcs,
      });
      this.#ends = [];
      this.#crcs = [];
    }
    this.#journal.endRecord(number, log.end.segment, this.#recordOffset, committed);
  }

  #roll(): void {
    const bucket = this.#bucket;
    this.#endRecord(bucket.watermark.end.logIndex);
    const previous = bucket.log.mark();
    bucket.log.roll();
    bucket.rolled(previous);
    this.#begin();
  }
}
