// The filter box: words are combined with AND, `-` in front negates.
//   status:5xx  status:429  status:error  status:aborted  >500ms  <1.5s
//   route:chat  model:gpt  user:  provider:  tenant:  method:  id:     a part of the value
//   route:"/v1/models"                                             the whole value

const FIELDS = {
  route: "endpoint",
  model: "model_id",
  user: "user_id",
  provider: "provider_id",
  tenant: "tenant_id",
  method: "method",
  id: "id",
};
const TEXTS = [...Object.values(FIELDS), "status_code", "error_message"];

export const words = (text) => text.match(/-?(?:[a-z]+:)?(?:"[^"]*"?|[^\s"]+)/gi) ?? [];

// What a click on a table's row stands for. Rows without the attribute carry the key `(none)`.
export const exactWord = (field, value) => `${field}:"${value.replaceAll('"', "")}"`;

function compile(word) {
  const [, minus, field, , rest] = /^(-?)(?:(status|route|model|user|provider|tenant|method|id):|([<>]))?(.*)$/is.exec(word);
  const test = positive(word.slice(minus.length), field?.toLowerCase(), rest);
  return minus && word.length > 1 ? (row) => !test(row) : test;
}

function positive(word, field, rest) {
  const value = rest.replaceAll('"', "");
  const lower = value.toLowerCase();
  const limit = /^([<>])(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(word);
  if (limit) {
    const ms = Number(limit[2]) * { ms: 1, s: 1000, m: 60_000 }[limit[3] ?? "ms"];
    return limit[1] === ">" ? (row) => row.latency_ms > ms : (row) => row.latency_ms < ms;
  }
  if (field === "status") {
    if (lower === "aborted") return (row) => row.aborted;
    if (lower === "error") return (row) => !row.success;
    return (row) => String(row.status_code ?? "").startsWith(lower.replace(/xx$/, ""));
  }
  if (field) {
    const read = (row) => row[FIELDS[field]] ?? "(none)";
    return rest.startsWith('"') ? (row) => read(row) === value : (row) => read(row).toLowerCase().includes(lower);
  }
  const text = word.toLowerCase();
  return (row) => TEXTS.some((name) => String(row[name] ?? "").toLowerCase().includes(text));
}

// A test for rows; `interval` is [from, to) in unix seconds, from a drag on the first chart.
export function matcher({ text, interval }) {
  const tests = words(text).map(compile);
  if (interval) tests.push(({ timestamp_ms: at }) => at >= interval[0] * 1000 && at < interval[1] * 1000);
  return (row) => tests.every((test) => test(row));
}

// Puts a word in, or takes it out if it is there.
export function toggleWord(text, word) {
  const all = words(text);
  return (all.includes(word) ? all.filter((other) => other !== word) : [...all, word]).join(" ");
}
