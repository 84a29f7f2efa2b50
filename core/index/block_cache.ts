/**
 * The blocks of index files that were read lately, at most so many bytes of them.
 *
 * It holds only blocks whose checksum was verified, so a hit is as good as a read. When it is full the clock goes
 * round: a block that was used since the hand last passed gets another round, the first that was not makes room. A
 * block that was handed out stays good for its holder after it was evicted: nothing is overwritten.
 *
 * It does not know what is in a block, nor where a file is.
 *
 * @module
 */

/** What a block of 4 KiB costs in memory: its bytes, the buffer and view around them, its entry here and in its file. */
const BLOCK_COST_BYTES = 4096 + 320;

interface CachedBlock {
  readonly file: CachedFile;
  readonly number: number;
  readonly view: DataView;
  /** Used since the hand last passed. */
  used: boolean;
}

/** One file as the cache sees it. A file that is replaced or removed is dropped, its successor is another CachedFile. */
export class CachedFile {
  /** By block number. Only BlockCache changes it. */
  readonly blocks: Map<number, CachedBlock> = new Map();
}

export class BlockCache {
  hits = 0;
  misses = 0;
  evictions = 0;
  readonly #ring: CachedBlock[] = [];
  readonly #entriesMax: number;
  #hand = 0;

  /** At least one block is kept, however small `maxBytes` is. */
  constructor(readonly maxBytes: number) {
    this.#entriesMax = Math.max(1, Math.floor(maxBytes / BLOCK_COST_BYTES));
  }

  get entries(): number {
    return this.#ring.length;
  }

  get memoryBytes(): number {
    return this.#ring.length * BLOCK_COST_BYTES;
  }

  get(file: CachedFile, number: number): DataView | null {
    const block = file.blocks.get(number);
    if (block === undefined) {
      this.misses++;
      return null;
    }
    this.hits++;
    block.used = true;
    return block.view;
  }

  put(file: CachedFile, number: number, view: DataView): void {
    const block = { file, number, view, used: false };
    if (this.#ring.length < this.#entriesMax) {
      this.#ring.push(block);
    } else {
      while (this.#ring[this.#hand]!.used) {
        this.#ring[this.#hand]!.used = false;
        this.#hand = (this.#hand + 1) % this.#ring.length;
      }
      const victim = this.#ring[this.#hand]!;
      victim.file.blocks.delete(victim.number);
      this.evictions++;
      this.#ring[this.#hand] = block;
      this.#hand = (this.#hand + 1) % this.#ring.length;
    }
    file.blocks.set(number, block);
  }

  /** Forgets every block of `file`. */
  drop(file: CachedFile): void {
    if (file.blocks.size === 0) return;
    let kept = 0;
    for (const block of this.#ring) if (block.file !== file) this.#ring[kept++] = block;
    this.#ring.length = kept;
    this.#hand = 0;
    file.blocks.clear();
  }
}
