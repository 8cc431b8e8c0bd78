// Time charts in SVG, drawn by hand: closed buckets only, a hatched band where there is nothing to know, one cursor
// for all charts of a group. Shapes are one path per series, so an update sets a handful of attributes.

import { attr, el, set, svg } from "./dom.js";
import { UNKNOWN, axis, clock, hour } from "./format.js";

const HEIGHT = 190;
const PLOT = { left: 46, right: 10, top: 10, bottom: 24 };

// 1, 2, 2.5, 5 and their tens: the smallest scale of at most four steps that holds the value.
function linear(max) {
  if (!(max > 0)) return { max: 1, ticks: [0] };
  const power = 10 ** Math.floor(Math.log10(max / 4));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size * 4 >= max * 0.999);
  const ticks = [];
  for (let at = 0; at < max + step * 0.999; at += step) ticks.push(Number(at.toPrecision(12)));
  return { max: ticks.at(-1), ticks };
}

function logarithmic(low, max) {
  const from = Math.floor(Math.log10(low));
  const to = Math.max(Math.ceil(Math.log10(max)), from + 1);
  const ticks = Array.from({ length: to - from + 1 }, (_, index) => 10 ** (from + index));
  return { from, max: 10 ** to, ticks };
}

const TIME_STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];

const known = (value) => value !== null && value !== undefined;

// A line with gaps where the value is unknown; a single point between two gaps is a dot (round caps draw it).
function linePath(values, x, y, stepped) {
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (!known(value)) {
      pen = false;
      return;
    }
    const top = y(value).toFixed(1);
    if (stepped) path += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${top}H${x(index + 1).toFixed(1)}`;
    else path += `${pen ? "L" : "M"}${x(index + 0.5).toFixed(1)} ${top}${pen ? "" : "h.01"}`;
    pen = true;
  });
  return path;
}

export class Chart {
  // series: [{label, name (of its colours), dash, value(point)}], bars are stacked in this order from the bottom.
  constructor(figure, { title, kind = "lines", series, format, total, toggle, drag, group }) {
    Object.assign(this, { figure, title, kind, series, format, total, drag, group });
    this.points = [];
    this.legend = el("ul", { class: "legend" });
    this.values = series.map(({ label, name, dash }) => {
      const value = el("b");
      const swatch = kind === "bars"
        ? svg("rect", { class: `fill-${name}`, width: 10, height: 10, y: 1, rx: 2 })
        : svg("path", { class: `line line-${name}`, d: "M1 6H21", "stroke-dasharray": dash });
      const width = kind === "bars" ? 10 : 22;
      this.legend.append(el("li", {}, svg("svg", { width, height: 12, "aria-hidden": "true" }, swatch), label, value));
      return value;
    });
    this.when = el("span", { class: "when" });
    this.caption = el("figcaption", { class: "sr" });
    this.spoken = el("span", { class: "sr", "aria-live": "polite" });
    this.hatch = `hatch-${figure.id}`;
    this.band = svg("g");
    this.grid = svg("g", { class: "grid" });
    this.paths = series.map(({ name, dash }) =>
      kind === "bars"
        ? svg("path", { class: `fill-${name}` })
        : svg("path", { class: `line line-${name}`, "stroke-dasharray": dash }),
    );
    this.mark = svg("g", { class: "mark" });
    this.select = svg("rect", { class: "select", y: PLOT.top, height: HEIGHT - PLOT.top - PLOT.bottom, visibility: "hidden" });
    this.line = svg("path", { class: "cursor" });
    this.dots = kind === "bars" ? [] : series.map(({ name }) => svg("circle", { class: `dot line-${name}`, r: 3.5 }));
    this.note = svg("text", { class: "note", y: HEIGHT / 2 - 6 });
    this.svg = svg("svg", { height: HEIGHT, "aria-hidden": "true" },
      svg("defs", {}, svg("pattern", { id: this.hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        svg("path", { class: "hatch", d: "M0 0V6" }))),
      this.band, this.grid, this.select, ...this.paths, this.mark, this.line, ...this.dots, this.note);
    this.plot = el("div", { class: "plot", tabindex: 0, role: "img", "aria-label": title }, this.svg);
    this.table = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title}, as a table`, hidden: true });
    const asTable = el("button", { class: "quiet", "aria-pressed": "false", title: "Show as table" }, "Table");
    asTable.addEventListener("click", () => {
      this.tabular = !this.tabular;
      asTable.setAttribute("aria-pressed", this.tabular);
      this.plot.hidden = this.tabular;
      this.table.hidden = !this.tabular;
      this.draw();
    });
    const tools = el("div", { class: "tools" }, this.when, asTable);
    if (toggle) {
      const log = el("button", { class: "quiet", "aria-pressed": "false", title: "Logarithmic scale" }, "Log");
      log.addEventListener("click", () => {
        this.log = !this.log;
        log.setAttribute("aria-pressed", this.log);
        this.draw();
      });
      asTable.before(log);
    }
    figure.append(el("div", { class: "head" }, el("h2", {}, title), tools), this.legend, this.plot, this.table, this.caption, this.spoken);
    this.listen();
    group.charts.push(this);
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width === this.width || width === 0) return;
      this.width = width;
      this.draw();
    }).observe(this.plot);
  }

  // `frame`: {from, to, step, started} in unix seconds; `started` is when the server's life began.
  update(points, frame, note = "") {
    const size = Math.round((frame.to - frame.from) / frame.step);
    this.points = Array(size).fill(null);
    for (const point of points) {
      const index = Math.round((point.t - frame.from) / frame.step);
      if (index >= 0 && index < size) this.points[index] = point;
    }
    this.frame = frame;
    this.text = note;
    this.draw();
  }

  x(index) {
    return PLOT.left + (index * (this.width - PLOT.left - PLOT.right)) / this.points.length;
  }

  draw() {
    if (!this.frame || !this.width) return;
    if (this.tabular) return this.tabulate();
    const { width } = this;
    const bottom = HEIGHT - PLOT.bottom;
    const covered = this.points.map((point) => point && point.covered > 0);
    const columns = this.series.map(({ value }) => this.points.map((point, index) => (covered[index] ? value(point) : null)));
    const x = (index) => this.x(index);
    attr(this.svg, "width", width);

    const heights = this.kind === "bars"
      ? this.points.map((_, index) => columns.reduce((sum, column) => sum + (column[index] ?? 0), 0))
      : columns.flat().filter(known);
    const max = Math.max(0, ...heights);
    const positive = this.log ? heights.filter((value) => value > 0) : [];
    const scale = positive.length ? logarithmic(Math.min(...positive), max) : linear(max);
    const share = positive.length
      ? (value) => (value > 0 ? (Math.log10(value) - scale.from) / (Math.log10(scale.max) - scale.from) : 0)
      : (value) => value / scale.max;
    const y = (value) => bottom - Math.max(0, share(value)) * (bottom - PLOT.top);
    this.y = y;
    this.columns = columns;

    if (this.kind === "bars") {
      const below = this.points.map(() => 0);
      const gap = Math.min(2, (x(1) - x(0)) * 0.2);
      columns.forEach((column, series) => {
        let path = "";
        column.forEach((value, index) => {
          if (!(value > 0)) return;
          const low = y(below[index]);
          below[index] += value;
          // A single error among thousands must still be seen.
          const top = Math.min(y(below[index]), low - 1);
          path += `M${(x(index) + gap / 2).toFixed(1)} ${low.toFixed(1)}V${top.toFixed(1)}H${(x(index + 1) - gap / 2).toFixed(1)}V${low.toFixed(1)}Z`;
        });
        attr(this.paths[series], "d", path);
      });
    } else {
      columns.forEach((column, series) => attr(this.paths[series], "d", linePath(column, x, y, this.kind === "steps")));
    }

    this.drawAxes(scale, y, bottom);
    this.drawGaps(covered, bottom);
    set(this.note, this.text);
    attr(this.note, "x", (width + PLOT.left - PLOT.right) / 2);
    this.point(this.group.index);
  }

  drawAxes(scale, y, bottom) {
    const { from, to, step } = this.frame;
    const { width } = this;
    const label = axis(this.format);
    const lines = scale.ticks.map((tick) => `M${PLOT.left} ${Math.round(y(tick)) + 0.5}H${width - PLOT.right}`).join("");
    const most = Math.max(2, Math.floor((width - PLOT.left) / 90));
    const every = TIME_STEPS.find((size) => (to - from) / size <= most) ?? 1800;
    const name = every < 60 ? clock : hour;
    // Ticks stand on round local times; zones are off by whole quarters of an hour, which every step divides or exceeds.
    const ticks = [];
    for (let at = Math.ceil(from / every) * every; at <= to; at += every) ticks.push(at);
    const key = `${lines}|${width}|${from}|${scale.ticks}`;
    if (key === this.axesKey) return;
    this.axesKey = key;
    this.grid.replaceChildren(
      svg("path", { d: lines }),
      ...scale.ticks.map((tick) => svg("text", { x: PLOT.left - 8, y: Math.round(y(tick)) + 4, "text-anchor": "end" }, label(tick))),
      ...ticks.map((at) => {
        const left = this.x((at - from) / step);
        const anchor = left > width - 30 ? "end" : "middle";
        return svg("text", { x: left.toFixed(1), y: bottom + 17, "text-anchor": anchor }, name(at * 1000));
      }),
    );
  }

  // Idle is a zero; not running is not a zero. The band says which.
  drawGaps(covered, bottom) {
    const bands = [];
    for (let from = 0; from < covered.length; from += 1) {
      if (covered[from]) continue;
      let to = from;
      while (to < covered.length && !covered[to]) to += 1;
      bands.push([from, to]);
      from = to;
    }
    const { from, step, started } = this.frame;
    const key = `${bands}|${this.width}|${started}|${from}`;
    if (key === this.gapKey) return;
    this.gapKey = key;
    this.band.replaceChildren(...bands.map(([left, right]) =>
      svg("rect", { x: this.x(left), width: this.x(right) - this.x(left), y: PLOT.top, height: bottom - PLOT.top, fill: `url(#${this.hatch})` })));
    const at = this.x((started - from) / step);
    const visible = started > from && at < this.width - PLOT.right;
    this.mark.replaceChildren(...(visible ? [
      svg("path", { d: `M${at.toFixed(1)} ${PLOT.top}V${bottom}` }),
      svg("text", { x: at + (at > this.width - 60 ? -5 : 5), y: PLOT.top + 9, "text-anchor": at > this.width - 60 ? "end" : "start" },
        this.frame.restarted ? "restart" : "start"),
    ] : []));
  }

  // Shows the values at the cursor; without one, of the latest closed bucket.
  point(index) {
    if (!this.columns) return;
    const at = index ?? this.points.length - 1;
    const point = this.points[at];
    const shown = index !== null && index < this.points.length;
    const centre = this.x(at + 0.5).toFixed(1);
    attr(this.line, "d", shown ? `M${centre} ${PLOT.top}V${HEIGHT - PLOT.bottom}` : "");
    this.columns.forEach((column, series) => {
      const value = column[at];
      set(this.values[series], known(value) ? this.format(value) : UNKNOWN);
      const dot = this.dots[series];
      if (!dot) return;
      attr(dot, "visibility", shown && known(value) ? "visible" : "hidden");
      if (shown && known(value)) {
        attr(dot, "cx", centre);
        attr(dot, "cy", this.y(value).toFixed(1));
      }
    });
    const time = clock((this.frame.from + at * this.frame.step) * 1000);
    set(this.when, shown ? time : "");
    const values = this.series.map(({ label }, series) => `${label} ${this.values[series].textContent}`).join(", ");
    this.sentence = `${this.title} at ${time}: ${point && point.covered > 0 ? values : "no data"}`;
    if (!shown) set(this.caption, this.sentence);
  }

  tabulate() {
    const rows = this.points.map((point, index) => [index, point]).filter(([, point]) => point && point.covered > 0).reverse();
    this.table.replaceChildren(el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Time"), ...this.series.map(({ label }) => el("th", { scope: "col", class: "num" }, label)))),
      el("tbody", {}, ...rows.map(([index, point]) => el("tr", {},
        el("th", { scope: "row" }, clock((this.frame.from + index * this.frame.step) * 1000)),
        ...this.series.map(({ value }) => {
          const number = value(point);
          return el("td", { class: "num" }, known(number) ? this.format(number) : UNKNOWN);
        }))))));
  }

  listen() {
    const { plot } = this;
    const indexAt = (event) => {
      const inside = event.clientX - plot.getBoundingClientRect().left - PLOT.left;
      const index = Math.floor((inside / (this.width - PLOT.left - PLOT.right)) * this.points.length);
      return Math.min(this.points.length - 1, Math.max(0, index));
    };
    let begin = null;
    plot.addEventListener("pointerdown", (event) => {
      if (!this.drag || event.pointerType !== "mouse" || event.button !== 0 || !this.frame) return;
      begin = indexAt(event);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => {
      if (!this.frame) return;
      const index = indexAt(event);
      this.group.move(index);
      if (begin === null) return;
      const [low, high] = [Math.min(begin, index), Math.max(begin, index) + 1];
      attr(this.select, "x", this.x(low));
      attr(this.select, "width", this.x(high) - this.x(low));
      attr(this.select, "visibility", index === begin ? "hidden" : "visible");
    });
    plot.addEventListener("pointerup", (event) => {
      if (begin === null) return;
      const end = indexAt(event);
      attr(this.select, "visibility", "hidden");
      if (end !== begin) this.choose(Math.min(begin, end), Math.max(begin, end) + 1);
      begin = null;
    });
    plot.addEventListener("pointerleave", () => this.group.move(null));
    plot.addEventListener("blur", () => this.group.move(null));
    plot.addEventListener("keydown", (event) => {
      if (!this.frame) return;
      const last = this.points.length - 1;
      const now = this.group.index ?? last;
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
      if (to !== undefined) this.group.move(Math.min(last, Math.max(0, to)));
      else if (event.key === "Enter" && this.drag && event.shiftKey) this.choose(now, now + 1);
      else if (event.key === "Enter") set(this.spoken, this.sentence);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  choose(low, high) {
    const { from, step } = this.frame;
    this.drag(from + low * step, from + high * step);
  }
}

// Charts that share a cursor.
export class Group {
  charts = [];
  index = null;

  move(index) {
    if (index === this.index) return;
    this.index = index;
    for (const chart of this.charts) if (chart.frame) chart.point(index);
  }
}

// A tile's little curve: `values` may hold nulls, the area under the curve is filled faintly.
export function spark(node, values) {
  const max = Math.max(...values.map((value) => value ?? 0));
  const height = (value) => (max > 0 ? 30 - (value / max) * 27 : 30);
  const x = (index) => (index * 100) / Math.max(1, values.length - 1);
  const line = values.some(known) ? linePath(values, (index) => x(index - 0.5), height) : "";
  const area = line.split(/(?=M)/).filter(Boolean).map((part) => {
    const numbers = part.match(/-?\d*\.?\d+/g);
    return `${part}V32H${numbers[0]}Z`;
  }).join("");
  if (!node.line) {
    node.area = svg("path", { class: "area" });
    node.line = svg("path", { class: "line" });
    node.append(node.area, node.line);
  }
  attr(node.line, "d", line);
  attr(node.area, "d", area);
}
