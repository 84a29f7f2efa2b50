/**
 * Messages as bytes of a stream, and back.
 *
 *     frame   0                4
 *             length | control | body …        little-endian; the highest bit says that it is control
 *
 * A stream keeps the order of bytes and not where a message ends, so each is preceded by its length. Control frames are
 * the transport's own (libp2p_transport.ts), and not messages. A body may be empty.
 *
 * @module
 */

const HEADER_BYTES = 4;
const CONTROL = 0x80000000;
/** Taken messages are forgotten in steps of so many: moving the rest costs something. */
const TAKEN_MAX = 1024;

/** What a peer sent is no frame, or a larger one than may be. */
export class BadFrame extends Error {
  override readonly name = "BadFrame";
}

/** Frames that wait to be sent, taken in slices of any size: a slice may end within a frame. */
export class FrameQueue {
  #bodies: Uint8Array[] = [];
  #headers: number[] = [];
  /** The first that is not taken, and how many bytes of its frame are. */
  #first = 0;
  #taken = 0;
  #bytes = 0;

  /** Bytes that wait, headers among them. */
  get bytes(): number {
    return this.#bytes;
  }

  push(body: Uint8Array, control = false): void {
    this.#bodies.push(body);
    this.#headers.push(control ? body.length + CONTROL : body.length);
    this.#bytes += HEADER_BYTES + body.length;
  }

  /** The next bytes, at most so many: a new array. */
  take(bytesMax: number): Uint8Array {
    const slice = new Uint8Array(Math.min(bytesMax, this.#bytes));
    for (let at = 0; at < slice.length;) {
      const body = this.#bodies[this.#first]!;
      while (this.#taken < HEADER_BYTES && at < slice.length) {
        slice[at++] = this.#headers[this.#first]! / 2 ** (8 * this.#taken++) & 0xff;
      }
      const from = this.#taken - HEADER_BYTES;
      if (from < 0) break; // The slice ends within a header.
      const length = Math.min(body.length - from, slice.length - at);
      if (length > 0) slice.set(from === 0 && length === body.length ? body : body.subarray(from, from + length), at);
      at += length;
      this.#taken += length;
      if (from + length === body.length) this.#forgetFirst();
    }
    this.#bytes -= slice.length;
    return slice;
  }

  #forgetFirst(): void {
    this.#first++;
    this.#taken = 0;
    if (this.#first < this.#bodies.length && this.#first < TAKEN_MAX) return;
    this.#bodies = this.#bodies.slice(this.#first);
    this.#headers = this.#headers.slice(this.#first);
    this.#first = 0;
  }
}

/** Frames out of the pieces in which a stream comes. A body that lies in one piece is not copied. */
export class FrameDecoder {
  readonly #bytesMax: number;
  #pieces: Uint8Array[] = [];
  /** Where the next byte is: a piece, and a place in it. */
  #piece = 0;
  #at = 0;
  /** Bytes from there on. */
  #bytes = 0;
  /** A body that lies in several pieces, and how much of it has come. */
  #body: Uint8Array | null = null;
  #filled = 0;
  #isControl = false;

  /** `bytesMax`: the largest body that may come. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Whether the frame that `next` returned last is control. */
  get isControl(): boolean {
    return this.#isControl;
  }

  push(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#pieces.push(piece);
    this.#bytes += piece.length;
  }

  /** The next body, or null until more comes. @throws {BadFrame} */
  next(): Uint8Array | null {
    if (this.#body === null) {
      if (this.#bytes < HEADER_BYTES) return null;
      const header = this.#takeHeader();
      const length = header % CONTROL;
      this.#isControl = header >= CONTROL;
      if (length > this.#bytesMax) {
        throw new BadFrame(`A frame of ${length} bytes comes, and ${this.#bytesMax} is the limit`);
      }
      const piece = this.#pieces[this.#piece];
      if (length === 0 || piece !== undefined && piece.length - this.#at >= length) return this.#view(piece, length);
      this.#body = new Uint8Array(length);
      this.#filled = 0;
    }
    const body = this.#body;
    while (this.#filled < body.length) {
      const piece = this.#pieces[this.#piece];
      if (piece === undefined) return null;
      const end = Math.min(piece.length, this.#at + body.length - this.#filled);
      body.set(piece.subarray(this.#at, end), this.#filled);
      this.#filled += end - this.#at;
      this.#pass(end - this.#at);
    }
    this.#body = null;
    return body;
  }

  #view(piece: Uint8Array | undefined, length: number): Uint8Array {
    if (piece === undefined) return new Uint8Array(0);
    const view = piece.subarray(this.#at, this.#at + length);
    this.#pass(length);
    return view;
  }

  #takeHeader(): number {
    let header = 0;
    for (let i = 0; i < HEADER_BYTES; i++) {
      header += this.#pieces[this.#piece]![this.#at]! * 2 ** (8 * i);
      this.#pass(1);
    }
    return header;
  }

  /** Goes on by bytes that lie in the present piece. */
  #pass(bytes: number): void {
    this.#at += bytes;
    this.#bytes -= bytes;
    if (this.#at < (this.#pieces[this.#piece]?.length ?? 0)) return;
    this.#at = 0;
    if (++this.#piece < this.#pieces.length && this.#piece < TAKEN_MAX) return;
    this.#pieces = this.#pieces.slice(this.#piece);
    this.#piece = 0;
  }
}
