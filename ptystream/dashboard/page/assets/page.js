"use strict"
// The state in words, orders with a token, and what to do when nobody answers. Text goes in as text, never as markup.

const POLL_MS = 500
const PATIENCE_MS = 4000
const UNKNOWN = "not known yet"
const KEY = "ptystream token"
const boot = document.documentElement.dataset.boot
const at = (id) => document.getElementById(id)
let shown = {}
let token = sessionStorage.getItem(KEY)

/** Replace text only where it differs, so that a screen reader is told of changes alone. */
function say(id, text) {
  const node = at(id)
  if (node.textContent !== text) node.textContent = text
}

function element(tag, text, tone) {
  const node = document.createElement(tag)
  node.textContent = text
  if (tone) node.className = tone
  return node
}

function list(id, rows) {
  const nodes = rows.flatMap((row) => {
    const value = element("dd", row.value, row.tone)
    if (row.note) value.append(element("small", row.note))
    return [element("dt", row.name), value]
  })
  at(id).replaceChildren(...nodes)
}

function table(rows) {
  const nodes = rows.map((row) => {
    const line = document.createElement("tr")
    const began = new Date(1000 * Number(row.began_s))
    const cells = [Number.isNaN(began.getTime()) ? "" : began.toLocaleTimeString(), row.scan, row.ended, row.frames,
      row.lost, row.held_out_error, row.resolution, row.result]
    line.append(...cells.map((text) => element("td", text)))
    return line
  })
  if (!nodes.length) {
    const cell = element("td", "none yet", "faint")
    cell.colSpan = 8
    nodes.push(document.createElement("tr"))
    nodes[0].append(cell)
  }
  at("past").replaceChildren(...nodes)
}

function banner(text) {
  at("banner").hidden = !text
  say("banner", text)
  document.body.classList.toggle("gone", Boolean(text))
}

function whatIsWrong(state) {
  if (state.silent_s === null) return "No service has been heard yet. The page fills when one speaks."
  if (!state.here) {
    return `The service has been silent for ${Math.round(state.silent_s)} s. This is what it said last; ` +
      "the page goes on by itself when it is back."
  }
  return ""
}

function show(state) {
  shown = state
  banner(whatIsWrong(state))
  const line = at("state")
  line.className = `state ${state.here ? state.state.tone : "faint"}`
  const words = state.here ? state.state.value : "service gone"
  if (line.firstChild?.textContent !== words || line.children[0]?.textContent !== state.state.note) {
    line.replaceChildren(words, ...(state.state.note ? [element("small", state.state.note)] : []))
  }
  say("scan", state.scan ? `scan ${state.scan}` : "")
  at("scan").title = state.scan || ""
  const {received, expected} = state.progress
  at("progress").hidden = !expected
  if (expected) at("progress").value = Math.min(1, received / expected)
  say("frames", expected ? `${received} of ${expected} frames` : received ? `${received} frames` : "")
  for (const id of ["quality", "flow", "health", "geometry"]) list(id, state[id])
  table(state.past)
  const now = {error: state.quality[0].value, resolution: state.quality[3].value, rate: state.flow[1].value.replace(" per second", ""),
    lag: state.flow[3].value, lost: state.flow[2].value}
  for (const [name, text] of Object.entries(now)) say(`now-${name}`, text === UNKNOWN ? "" : text)
  say("version", state.version ? `ptystream ${state.version}` : "")
  orders(state)
}

function orders(state) {
  at("readonly").hidden = state.acts
  at("unlock").hidden = !state.acts || Boolean(token)
  at("orders").hidden = !state.acts || !token
  const can = {hold: state.name !== "held", resume: state.name === "held", save: Boolean(state.run), stop: Boolean(state.run)}
  for (const button of document.querySelectorAll("[data-order]")) {
    button.disabled = !state.here || !can[button.dataset.order]
  }
}

async function order(name, run) {
  try {
    const reply = await fetch(`order/${name}`, {
      method: "POST",
      headers: {Authorization: `Bearer ${token}`, "Content-Type": "application/json"},
      body: JSON.stringify(run ? {run} : {}),
    })
    if (reply.status === 401) forget()
    return await reply.json()
  } catch (error) {
    return {ok: false, error: "the dashboard does not answer"}
  }
}

function forget() {
  token = null
  sessionStorage.removeItem(KEY)
}

/** Try a token; keep it for this tab alone if it is right. */
async function unlock(given) {
  token = given
  const reply = await order("ping")
  if (reply.ok) sessionStorage.setItem(KEY, given)
  else token = null
  say("said", reply.ok ? "" : reply.error)
  if (shown.state) orders(shown)
  return reply.ok
}

async function press(name) {
  const run = shown.run
  if (name === "stop") {
    say("confirm-scan", shown.scan || "")
    at("confirm").returnValue = "no"
    at("confirm").showModal()
    await new Promise((done) => at("confirm").addEventListener("close", done, {once: true}))
    if (at("confirm").returnValue !== "yes") return
  }
  const reply = await order(name, run)
  say("said", reply.ok ? {hold: "held", resume: "goes on", save: "being saved", stop: "stopping"}[name] : reply.error)
}

async function poll() {
  try {
    const reply = await fetch("state", {signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store"})
    if (!reply.ok) throw new Error(String(reply.status))
    const state = await reply.json()
    // Another process answers: the plots of this page belong to one that has ended.
    if (state.boot !== boot) location.reload()
    show(state)
  } catch (error) {
    banner("The dashboard itself does not answer. The page goes on by itself when it is back.")
  }
  setTimeout(poll, POLL_MS)
}

/** A token in the address' fragment never leaves the browser; it is taken out of sight. */
async function takeFragment() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token")
  if (!given) return
  history.replaceState(null, "", location.pathname + location.search)
  await unlock(given)
}

function whenDrawn(act) {
  const document_ = window.Bokeh?.documents[0]
  if (document_ && document_.get_model_by_name("lost")) {
    document_.on_event("connection_lost", (_, event) => { if (event.timeout == null) location.reload() })
    window.views = act(document_)
  } else {
    setTimeout(() => whenDrawn(act), 50)
  }
}

at("unlock").addEventListener("submit", async (event) => {
  event.preventDefault()
  const given = at("token").value
  at("token").value = ""
  await unlock(given)
})
for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", () => press(button.dataset.order))
}
takeFragment()
poll()
whenDrawn(setUpMaps)
