// Series of a session: pieces put together, what lies in a range, and the axis that shows it.

const numbers = (values, length) => (values ? values.map((v) => (v === null ? NaN : v)) : new Array(length).fill(NaN));

// { time, id, state, values: {name: []}, square, hole, stage_x, stage_y } of all pieces, in the order of time
export function join(pieces, names) {
  const all = { time: [], id: [], state: [], values: Object.fromEntries(names.map((name) => [name, []])) };
  for (const name of ["square", "hole", "stage_x", "stage_y"]) all[name] = [];
  for (const piece of pieces) {
    const length = piece.time.length;
    for (let i = 0; i < length; i++) {
      all.time.push(piece.time[i]);
      all.id.push(piece.id[i]);
      all.state.push(piece.state[i]);
    }
    for (const name of names) for (const value of numbers(piece.values[name], length)) all.values[name].push(value);
    for (const name of ["square", "hole", "stage_x", "stage_y"]) for (const value of numbers(piece[name], length)) all[name].push(value);
  }
  return all;
}

export function older(piece, names) {
  if (!piece) return { time: [], values: {} };
  return { time: piece.time, values: Object.fromEntries(names.map((name) => [name, numbers(piece.values[name], piece.time.length)])) };
}

// places of the first time not below, so that [from, to) are the times between begin and end
export function within(time, begin, end) {
  const first = (value) => {
    let low = 0;
    let high = time.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (time[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return [first(begin), first(end + 1e-3)];
}

export function quantile(sorted, part) {
  const at = part * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length ? quantile(sorted, 0.5) : null;
}

// The part of an axis that shows nearly all values and a near limit, as views.monitor.value_range has it.
export function valueRange(values, limits) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (!sorted.length) return [0, 1];
  let low = quantile(sorted, 0.02);
  let high = quantile(sorted, 0.98);
  const room = Math.max(high - low, 0.05 * Math.max(Math.abs(high), Math.abs(low))) || 1;
  for (const limit of limits) {
    if (limit !== null && limit >= low - room && limit <= high + room) {
      low = Math.min(low, limit);
      high = Math.max(high, limit);
    }
  }
  return [low - 0.12 * room, high + 0.12 * room];
}

export function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((n) => n * power >= raw * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(n * step);
  return { step, values: found };
}

const STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800];

export function timeTicks(begin, end, wanted) {
  const step = STEPS.find((s) => (end - begin) / s <= wanted) ?? STEPS.at(-1);
  const ahead = -60 * new Date(1000 * end).getTimezoneOffset();
  const found = [];
  for (let n = Math.ceil((begin + ahead) / step); n * step - ahead <= end; n++) found.push(n * step - ahead);
  return { step, values: found };
}
