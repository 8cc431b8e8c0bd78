// Numbers as people read them: at most three significant digits on tiles, the unit promoted after rounding, never a
// false 0 % or 100 %, and "–" for what is not known. No document here, so that Node can test it.

export const UNKNOWN = "–";

const known = (format) => (value, ...rest) => (Number.isFinite(value) ? format(value, ...rest) : UNKNOWN);

// Three significant digits of a value below 999.5: the number of decimals follows from the rounded value.
const three = (value) => value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);

function promote(value, base, units) {
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  return three(value) + units[unit];
}

// `Intl` formatters are dear to make and cheap to use.
const grouped = {};
const digits = (value, least, most) =>
  (grouped[`${least} ${most}`] ??= new Intl.NumberFormat("en-US", {
    minimumFractionDigits: least,
    maximumFractionDigits: most,
  })).format(value);

const THOUSANDS = ["k", "M", "B", "T"];
const pad = (value) => String(value).padStart(2, "0");
const pair = (big, bigUnit, small, smallUnit) => `${Math.floor(big)}${bigUnit} ${pad(Math.floor(small))}${smallUnit}`;

export const asDuration = known((ms) => {
  if (ms === 0) return "0 ms";
  if (ms < 0.0005) return "<1 µs";
  if (ms < 0.9995) return `${Math.round(ms * 1000)} µs`;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${three(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return pair(seconds / 60, "m", seconds % 60, "s");
  return pair(seconds / 3600, "h", (seconds / 60) % 60, "m");
});

export const asPercent = known((rate) => {
  if (rate === 0 || rate === 1) return `${rate * 100}%`;
  if (rate < 0.0001) return "<0.01%";
  if (rate > 0.999) return ">99.9%";
  return `${(rate * 100).toFixed(rate < 0.009995 ? 2 : 1)}%`;
});

export const asCount = known((value) => digits(Math.round(value), 0, 0));

export const asShort = known((value) => (value < 9999.5 ? asCount(value) : promote(value / 1000, 1000, THOUSANDS)));

// A quarter is 0.3 here, as on paper: `toFixed` alone would round the binary fraction.
export const asRate = known((value) => {
  if (value === 0) return "0";
  if (value < 0.05) return "<0.1";
  return value < 9.95 ? (Math.round(value * 10 + 1e-9) / 10).toFixed(1) : asShort(value);
});

let dollar = "$";

export function setCurrency(currency) {
  try {
    const format = new Intl.NumberFormat("en-US", { style: "currency", currency, currencyDisplay: "narrowSymbol" });
    dollar = format.formatToParts(0).find((part) => part.type === "currency").value;
  } catch {
    // Not an ISO code: the host's own word.
    dollar = `${currency} `;
  }
}

export const asMoney = known((value) => {
  if (value > 0 && value < 0.01) return `<${dollar}0.01`;
  return dollar + (value < 9999.995 ? digits(value, 2, 2) : promote(value / 1000, 1000, THOUSANDS));
});

// The price of one request.
export const asPrice = known((value) =>
  value > 0 && value < 0.0000005 ? `<${dollar}0.000001` : dollar + digits(value, 2, value < 0.001 ? 6 : 4));

export const asBytes = known((value) =>
  value < 999.5 ? `${Math.round(value)} B` : promote(value / 1024, 1024, [" KiB", " MiB", " GiB", " TiB"]));

export const asSpeed = known((value) => `${value < 99.95 ? value.toPrecision(3) : asShort(value)} tok/s`);

export const asAge = known((seconds) => {
  if (seconds < 1.5) return "now";
  const [size, unit] = seconds < 59.5 ? [1, "s"] : seconds < 3570 ? [60, "m"] : [3600, "h"];
  return `${Math.round(seconds / size)}${unit} ago`;
});

// A range in words: "5 min", "1 h".
export const asSpan = (seconds) => (seconds < 3600 ? `${seconds / 60} min` : `${seconds / 3600} h`);

const clock = (options) => {
  const format = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", ...options });
  return known((ms) => format.format(ms));
};
export const asClock = clock({ second: "2-digit" });
export const asHour = clock({});

// Axis labels are not tile numbers: 0 is "0", and zeros at the end say nothing, but for cents.
export const asAxis = (format) => (value) => {
  if (value === 0) return "0";
  if (format === asMoney) return asPrice(value).replace(/\.00$/, "");
  return format(value).replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");
};
