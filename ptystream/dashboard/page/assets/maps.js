"use strict"
// Zoom, contrast and theme of Bokeh's plots. All of it is the browser's own: what the server sends never moves a view
// that somebody has set.

// Views that move together: the maps of the object; probe and pattern each alone.
const GROUPS = [["amplitude", "phase", "coverage", "confidence"], ["probe"], ["pattern"]]
const CONTRASTS = ["amplitude", "phase", "coverage", "confidence", "pattern"]
const STEP = 1.4

const model = (document_, name) => document_.get_model_by_name(name)

/** Change a model here alone: the server need not know how somebody looks at its plots. */
const put = (of, values) => of.setv(values, {sync: false})

/** A group of plots with one centre and one scale, each of its own shape. */
class View {
  constructor(document_, names) {
    this.plots = names.map((name) => model(document_, name))
    this.source = model(document_, `${names[0]}_source`)
    this.follow = true
    this.busy = false
    this.run = null
    this.source.properties.data.change.connect(() => this.refresh())
    for (const plot of this.plots) {
      for (const range of [plot.x_range, plot.y_range]) range.change.connect(() => this.moved(plot))
      for (const side of ["inner_width", "inner_height"]) plot.properties[side].change.connect(() => this.apply())
    }
    this.refresh()
  }

  /** Go on following the data, unless somebody has set the view in this run. */
  refresh() {
    const {run, x, y, dw, dh} = this.source.data
    if (!dw || !dw.length) return
    if (run && run[0] !== this.run) { this.run = run[0]; this.follow = true }
    this.box = {x: x[0] + dw[0] / 2, y: y[0] + dh[0] / 2, w: dw[0], h: dh[0]}
    if (this.follow) this.whole()
  }

  whole() {
    this.follow = true
    if (!this.box) return
    this.at = {x: this.box.x, y: this.box.y}
    this.apply()
  }

  /** How much one pixel of a plot shows. */
  scale(plot) {
    const fits = Math.max(this.box.w / plot.inner_width, this.box.h / plot.inner_height) * 1.02
    return this.follow ? fits : fits * this.part
  }

  apply() {
    if (!this.box || !this.at) return
    this.busy = true
    for (const plot of this.plots) {
      if (!(plot.inner_width > 0 && plot.inner_height > 0)) continue
      const half = this.scale(plot) / 2
      const [w, h] = [half * plot.inner_width, half * plot.inner_height]
      put(plot.x_range, {start: this.at.x - w, end: this.at.x + w})
      put(plot.y_range, {start: this.at.y + h, end: this.at.y - h})
    }
    this.busy = false
  }

  /** Somebody moved one plot: the others come along. */
  moved(plot) {
    if (this.busy || !this.box || this.waits) return
    this.waits = true
    queueMicrotask(() => {
      this.waits = false
      const {x_range: x, y_range: y} = plot
      const fits = Math.max(this.box.w / plot.inner_width, this.box.h / plot.inner_height) * 1.02
      this.set({x: (x.start + x.end) / 2, y: (y.start + y.end) / 2}, (x.end - x.start) / (fits * plot.inner_width))
    })
  }

  set(at, part) {
    this.follow = false
    this.at = at
    this.part = Math.min(Math.max(part, 0.005), 20)
    this.apply()
  }

  zoom(by) {
    if (this.box) this.set(this.at, (this.follow ? 1 : this.part) / by)
  }

  pan(x, y) {
    if (!this.box) return
    const part = this.follow ? 1 : this.part
    this.set({x: this.at.x + 0.1 * x * part * this.box.w, y: this.at.y + 0.1 * y * part * this.box.h}, part)
  }
}

/** Contrast of one map: the data's own, until somebody types another. */
class Contrast {
  constructor(document_, name) {
    this.source = model(document_, `${name}_source`)
    this.colours = model(document_, `${name}_colours`)
    this.scale = model(document_, `${name}_scale`)
    this.form = document.querySelector(`[data-contrast="${name}"]`)
    this.choice = name === "phase" ? document.getElementById("phase-colours") : null
    this.inputs = ["lo", "hi"].map((end) => this.form.querySelector(`[data-end="${end}"]`))
    this.button = this.form.querySelector("[data-auto]")
    this.auto = true
    for (const input of this.inputs) input.addEventListener("change", () => { this.auto = false; this.refresh() })
    this.button.addEventListener("click", () => { this.auto = true; this.refresh() })
    this.choice?.addEventListener("change", () => this.refresh())
    this.source.properties.data.change.connect(() => this.refresh())
    this.refresh()
  }

  refresh() {
    const {low, high, lo, hi} = this.source.data
    this.button.setAttribute("aria-pressed", String(this.auto))
    if (!low || !low.length) return
    const cyclic = this.choice && (this.choice.value === "cyclic" || (this.choice.value === "auto" && hi[0] - lo[0] > 4))
    let [from, to] = this.auto ? (cyclic ? [-Math.PI, Math.PI] : [lo[0], hi[0]]) : this.inputs.map((i) => i.valueAsNumber)
    if (!(to > from)) [from, to] = [lo[0], hi[0]]
    // What somebody is typing stays.
    if (this.auto) [from, to].forEach((v, i) => { if (this.inputs[i] !== document.activeElement) this.inputs[i].value = String(Number(v.toPrecision(3))) })
    const code = (v) => (255 * (v - low[0])) / (high[0] - low[0])
    if (this.choice) {
      const palette = this.scale.tags[0][cyclic ? "cyclic" : "plain"]
      if (this.scale.palette !== palette) for (const mapper of [this.scale, this.colours]) put(mapper, {palette})
    }
    put(this.colours, {low: code(from), high: code(to)})
    put(this.scale, {low: from, high: to})
  }
}

/** What no light has reached is grey; the coverage says where. */
function shadeUnlit(document_) {
  const source = model(document_, "coverage_source")
  const refresh = () => {
    const {low, high, lit} = source.data
    if (!low || !low.length) return
    const code = (255 * (lit[0] - low[0])) / (high[0] - low[0])
    for (const name of ["amplitude", "phase", "confidence"]) put(model(document_, `${name}_unlit`), {high: Math.max(2 * code, 1)})
  }
  source.properties.data.change.connect(refresh)
  refresh()
}

/** Give plots the colours and the size of the page's own text. */
function paint(document_, names) {
  const style = getComputedStyle(document.documentElement)
  const of = (name) => style.getPropertyValue(name).trim()
  const [ink, muted, rule, card] = ["--ink", "--muted", "--rule", "--card"].map(of)
  const px = `${Math.round(0.78 * parseFloat(style.fontSize))}px`
  const font = style.fontFamily
  for (const name of names) {
    const plot = model(document_, name)
    const under = GROUPS[0].includes(name) ? of("--unlit") : card
    put(plot, {background_fill_color: under})
    for (const axis of [...plot.below, ...plot.left]) {
      put(axis, {axis_label_text_color: muted, axis_label_text_font_size: px, axis_label_text_font_style: "normal",
        axis_label_text_font: font, major_label_text_color: muted, major_label_text_font_size: px,
        major_label_text_font: font, axis_line_color: rule, major_tick_line_color: rule, minor_tick_line_color: null})
    }
    for (const item of plot.center) {
      if (item.type === "Grid") put(item, {grid_line_color: rule})
      if (item.type === "ScaleBar") put(item, {label_text_font_size: px, label_text_font: font})
    }
    for (const legend of plot.above) {
      put(legend, {label_text_color: ink, label_text_font_size: px, label_text_font: font, label_height: 14, glyph_height: 14})
    }
    for (const bar of plot.right) {
      put(bar, {major_label_text_color: muted, major_label_text_font_size: px, major_label_text_font: font})
    }
    for (const renderer of plot.renderers) {
      const line = (renderer.tags || []).find((tag) => String(tag).startsWith("line-"))
      if (line) put(renderer.glyph, {line_color: {value: of(`--${line}`)}})
    }
  }
  for (const name of ["amplitude", "phase", "confidence"]) {
    put(model(document_, `${name}_unlit`), {palette: [of("--unlit"), "rgba(0,0,0,0)"]})
  }
}

/** Set everything up on a document whose plots are there. */
function setUpMaps(document_) {
  const views = {}
  for (const names of GROUPS) {
    const view = new View(document_, names)
    for (const name of names) views[name] = view
  }
  for (const name of CONTRASTS) new Contrast(document_, name)
  shadeUnlit(document_)
  const names = [...document.querySelectorAll("[data-plot]")].map((e) => e.dataset.plot)
  const repaint = () => paint(document_, names)
  repaint()
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint)
  addEventListener("resize", repaint)
  // A finger on a plot scrolls the page; the buttons zoom.
  if (matchMedia("(pointer: coarse)").matches) {
    for (const name of Object.keys(views)) put(model(document_, name).toolbar, {active_drag: null})
  }
  const act = {
    in: (v) => v.zoom(STEP), out: (v) => v.zoom(1 / STEP), whole: (v) => v.whole(),
    "+": (v) => v.zoom(STEP), "=": (v) => v.zoom(STEP), "-": (v) => v.zoom(1 / STEP), 0: (v) => v.whole(),
    ArrowLeft: (v) => v.pan(-1, 0), ArrowRight: (v) => v.pan(1, 0), ArrowUp: (v) => v.pan(0, -1), ArrowDown: (v) => v.pan(0, 1),
  }
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => act[button.dataset.zoom](views[button.dataset.of]))
  }
  for (const area of document.querySelectorAll("[data-keys]")) {
    area.addEventListener("keydown", (event) => {
      if (event.target !== area || event.ctrlKey || event.metaKey || event.altKey || !(event.key in act)) return
      event.preventDefault()
      act[event.key](views[area.dataset.keys])
    })
  }
  for (const name of Object.keys(views)) {
    const source = model(document_, `${name}_source`)
    const none = document.querySelector(`#card-${name} .none`)
    const refresh = () => { none.hidden = Boolean(source.data.image && source.data.image.length) }
    source.properties.data.change.connect(refresh)
    refresh()
  }
  return views
}
