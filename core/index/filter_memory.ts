/**
 * The filters that every append may have to ask, kept in memory without the blocks around them: of heads files, and of
 * the event ids of segments where ids are not in the order of time.
 *
 * Problem: an id that is chance may be in any segment, so each segment's filter is asked. Through the cache of blocks
 * that costs a look-up of a block each, and 50 million ids have filters of 62 MB, which push out all else.
 *
 * Idea: a filter is an array of words, filled block by block as it is asked: a question costs 40 ns, and a filter that
 * nobody asks is never read.
 *
 * All filters together have a bound. Who comes too late reads blocks, as before.
 *
 * @module
 */
import { type IndexFile, isInWords, LINE_WORDS, LINES_PER_BLOCK, PAYLOAD_AT } from "./index_file.ts";

/** How much of the bound is taken. */
export class FilterMemory {
  bytes = 0;

  constructor(readonly maxBytes: number) {}

  take(bytes: number): boolean {
    if (this.bytes + bytes > this.maxBytes) return false;
    this.bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.bytes -= bytes;
  }
}

/** The filter of one file. */
export class KeptFilter {
  readonly #file: IndexFile;
  readonly #firstBlock: number;
  readonly #words: Uint32Array;
  /** By block: 1 when it was read. */
  readonly #read: Uint8Array;

  private constructor(file: IndexFile, firstBlock: number, lines: number) {
    this.#file = file;
    this.#firstBlock = firstBlock;
    this.#words = new Uint32Array(lines * LINE_WORDS);
    this.#read = new Uint8Array(Math.ceil(lines / LINES_PER_BLOCK));
  }

  /** Null: there is no room for it. `close` gives its room back. */
  static open(memory: FilterMemory, file: IndexFile, firstBlock: number, lines: number): KeptFilter | null {
    return memory.take(4 * LINE_WORDS * lines) ? new KeptFilter(file, firstBlock, lines) : null;
  }

  close(memory: FilterMemory): void {
    memory.give(this.#words.byteLength);
  }

  /** Whether all bits of a key are set in a line. @throws {IndexDamaged} */
  mayHold(line: number, a: number, b: number, c: number): boolean {
    const block = Math.floor(line / LINES_PER_BLOCK);
    if (this.#read[block] === 0) this.#readBlock(block);
    return isInWords(this.#words, line * LINE_WORDS, a, b, c);
  }

  #readBlock(block: number): void {
    const view = this.#file.blockPastCache(this.#firstBlock + block);
    const first = block * LINES_PER_BLOCK * LINE_WORDS;
    const end = Math.min(this.#words.length, first + LINES_PER_BLOCK * LINE_WORDS);
    for (let word = first, at = PAYLOAD_AT; word < end; word++, at += 4) this.#words[word] = view.getUint32(at, true);
    this.#read[block] = 1;
  }
}
