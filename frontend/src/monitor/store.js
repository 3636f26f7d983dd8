// What the kernel tells: states of microscopes and the files they name, each fetched once.

const TEXT = new TextDecoder();

export function openStore(model, changed) {
  const states = new Map(); // name -> status
  const files = new Map(); // file -> bytes
  const asked = new Set();
  const pictures = new Map(); // file -> address of a blob
  const series = new Map(); // file -> data
  let open = null;

  const ask = (name) => model.send({ kind: "open", name });

  // Files are asked for where they are shown; those already here are not asked for again.
  function need(name, wanted) {
    const missing = wanted.filter((file) => file && !files.has(file) && !asked.has(file));
    for (const file of missing) asked.add(file);
    if (missing.length) model.send({ kind: "files", name, files: missing });
    return wanted.every((file) => !file || files.has(file));
  }

  function onMessage(message, buffers) {
    if (message.kind === "changed" && message.name === open) ask(open);
    else if (message.kind === "status") {
      if (message.status) states.set(message.name, message.status);
      if (message.name === open) changed(message.name);
    } else if (message.kind === "files") {
      message.files.forEach((file, i) => files.set(file, new Uint8Array(buffers[i].buffer, buffers[i].byteOffset, buffers[i].byteLength)));
      asked.clear(); // what did not come belongs to a state that has passed
      forget();
      changed(message.name);
    }
  }

  // What no present state names is let go.
  function forget() {
    const kept = new Set([...states.values()].flatMap((status) => status.files ?? []));
    for (const card of model.get("cards")) if (card.picture) kept.add(card.picture.file);
    for (const file of files.keys()) {
      if (kept.has(file)) continue;
      files.delete(file);
      series.delete(file);
      if (pictures.has(file)) URL.revokeObjectURL(pictures.get(file));
      pictures.delete(file);
    }
  }

  model.on("msg:custom", onMessage);
  return {
    need,
    status: (name) => states.get(name),
    open(name) {
      open = name;
      if (name !== null) ask(name);
    },
    picture(file) {
      if (!files.has(file)) return null;
      if (!pictures.has(file)) pictures.set(file, URL.createObjectURL(new Blob([files.get(file)], { type: "image/png" })));
      return pictures.get(file);
    },
    data(file) {
      if (!files.has(file)) return null;
      if (!series.has(file)) series.set(file, JSON.parse(TEXT.decode(files.get(file))));
      return series.get(file);
    },
    close() {
      model.off("msg:custom", onMessage);
      for (const address of pictures.values()) URL.revokeObjectURL(address);
    },
  };
}
