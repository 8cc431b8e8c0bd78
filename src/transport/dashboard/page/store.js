// The requests that the page keeps, newest first. The array is replaced, never changed: a frozen view is a kept reference.

export const KEEP = 500;

// A host's own request ids may repeat when a client tries again, so the id alone does not name a row.
export const rowKey = (row) => `${row.id} ${row.timestamp_ms} ${row.latency_ms}`;

export class Store {
  rows = [];
  keys = new Set();

  // Rows in any order, from the stream or from REST; the same row may come both ways. Returns how many were new.
  add(rows) {
    const fresh = [];
    for (const row of rows) {
      const key = rowKey(row);
      if (this.keys.has(key)) continue;
      this.keys.add(key);
      fresh.push(row);
    }
    if (fresh.length) {
      const all = fresh.concat(this.rows).sort((a, b) => b.timestamp_ms - a.timestamp_ms);
      for (const row of all.splice(KEEP)) this.keys.delete(rowKey(row));
      this.rows = all;
    }
    return fresh.length;
  }
}

// `<epoch>-<seq>`: a new epoch is a new life of the server. Anything else is an unknown position.
export const epochOf = (position) => /^(\d+)-\d+$/.exec(position)?.[1];
