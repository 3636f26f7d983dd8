// Exposures as they were sent, decoded and ready to be drawn, the least recently shown given up first.

const LIMIT = 96e6; // bytes of decoded pictures and drawings

export class Cache {
  #entries = new Map(); // in the order of their last use
  #bytes = 0;

  static key(id, overview) {
    return `${overview}/${id}`;
  }

  get(id, overview) {
    const key = Cache.key(id, overview);
    const entry = this.#entries.get(key);
    if (!entry) return null;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  has(id, overview) {
    return this.#entries.has(Cache.key(id, overview));
  }

  put(id, overview, entry) {
    this.#drop(Cache.key(id, overview));
    this.#entries.set(Cache.key(id, overview), entry);
    this.#bytes += entry.bytes;
    for (const key of this.#entries.keys()) {
      if (this.#bytes <= LIMIT || this.#entries.size <= 2) break;
      this.#drop(key);
    }
  }

  grown(entry, bytes) {
    entry.bytes += bytes;
    this.#bytes += bytes;
  }

  // Forget exposures that changed; all where no ids are given. What is on the screen stays there until it comes anew.
  forget(ids) {
    const gone = ids === null ? null : new Set(ids);
    for (const key of [...this.#entries.keys()]) {
      if (gone === null || gone.has(Number(key.split("/")[1]))) this.#drop(key);
    }
  }

  get size() {
    return { entries: this.#entries.size, bytes: this.#bytes };
  }

  // Bitmaps are left to the garbage collector: one of them may be on the screen still.
  #drop(key) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}

const asBytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

// Decode what a tile shows: tile.bitmap or tile.drawing. A picture that cannot be decoded is missing, with its reason.
export async function decode(tile, buffers) {
  if (tile.buffer === null) return 0;
  const bytes = asBytes(buffers[tile.buffer]);
  if (tile.type === "image/svg+xml") {
    tile.drawing = new TextDecoder().decode(bytes);
    return bytes.length;
  }
  try {
    tile.bitmap = await createImageBitmap(new Blob([bytes], { type: tile.type }));
    return 4 * tile.bitmap.width * tile.bitmap.height;
  } catch {
    tile.missing = "The picture cannot be decoded: run its step again.";
    return 0;
  }
}
