// What the kernel tells: states of microscopes and the files they name, each fetched once.

const TEXT = new TextDecoder();
const AGAIN = 3000; // ms until a file that could not be had is asked for again
const LOST = 30000; // ms after which an answer will not come any more
const REST = 120; // ms that the pointer rests until a sheet of previews is fetched: what it passes over is not
const MOST_SHEETS = 24; // that are held at once, each half a megabyte when it is drawn

export function openStore(model, changed) {
  const states = new Map(); // name -> status
  const files = new Map(); // file -> bytes
  const asked = new Map(); // file -> when
  const pictures = new Map(); // file -> address of a blob
  const sheets = new Map(); // file -> a picture that is ready to be drawn, or null until it is; the last used last
  const series = new Map(); // file -> data
  let open = null;
  let resting = null;

  const ask = (name) => model.send({ kind: "open", name });

  // Files are asked for where they are shown; those already here are not asked for again.
  function need(name, wanted) {
    const now = performance.now();
    const missing = wanted.filter((file) => file && !files.has(file) && !(now - asked.get(file) < LOST));
    for (const file of missing) asked.set(file, now);
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
      for (const file of message.files) asked.delete(file);
      // what is absent belongs to a state that has passed, or cannot be reached at the moment
      setTimeout(() => message.absent.forEach((file) => asked.delete(file)), AGAIN);
      forget();
      changed(message.name);
    }
  }

  // What no present state names is let go.
  function forget() {
    const kept = new Set([...states.values()].flatMap((status) => [...(status.files ?? []), ...(status.previews?.sheets ?? []).map((sheet) => sheet.file)]));
    for (const card of model.get("cards")) if (card.picture) kept.add(card.picture.file);
    for (const file of files.keys()) {
      if (!kept.has(file)) drop(file);
    }
  }

  function drop(file) {
    files.delete(file);
    series.delete(file);
    if (pictures.has(file)) URL.revokeObjectURL(pictures.get(file));
    pictures.delete(file);
    sheets.delete(file);
  }

  function picture(file) {
    if (!files.has(file)) return null;
    if (!pictures.has(file)) pictures.set(file, URL.createObjectURL(new Blob([files.get(file)], { type: "image/png" })));
    return pictures.get(file);
  }

  // A sheet of previews, fetched when somebody points at one of them; null until it is here.
  function sheet(name, file) {
    clearTimeout(resting);
    if (!files.has(file)) {
      resting = setTimeout(() => need(name, [file]), REST);
      return null;
    }
    if (sheets.has(file)) {
      const there = sheets.get(file);
      sheets.delete(file);
      sheets.set(file, there);
    } else {
      sheets.set(file, null);
      for (const old of [...sheets.keys()].slice(0, -MOST_SHEETS)) drop(old);
      const image = new Image();
      image.src = picture(file);
      image.decode().then(
        () => {
          if (!sheets.has(file)) return;
          sheets.set(file, image);
          changed(name);
        },
        () => {}, // let go meanwhile
      );
    }
    return sheets.get(file);
  }

  model.on("msg:custom", onMessage);
  return {
    need,
    status: (name) => states.get(name),
    open(name) {
      open = name;
      if (name !== null) ask(name);
    },
    picture,
    sheet,
    data(file) {
      if (!files.has(file)) return null;
      if (!series.has(file)) series.set(file, JSON.parse(TEXT.decode(files.get(file))));
      return series.get(file);
    },
    close() {
      clearTimeout(resting);
      model.off("msg:custom", onMessage);
      for (const address of pictures.values()) URL.revokeObjectURL(address);
    },
  };
}
