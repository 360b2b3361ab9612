// The figures of Now as they change. Without this script the page stays as it was loaded.
const from = document.currentScript.dataset.from
const state = document.getElementById("live")
let source

const say = (text) => {
  if (state.textContent !== text) {
    state.textContent = text
  }
}

const show = (message) => {
  const { picture, ...figures } = JSON.parse(message.data)
  for (const name in figures) {
    document.getElementById("live-" + name).textContent = figures[name]
  }
  if (picture) {
    document.getElementById("path-rate").setAttribute("d", picture.rate)
    document.getElementById("path-due").setAttribute("d", picture.due)
    document.getElementById("most-rate").textContent = picture.mostRate
    document.getElementById("most-due").textContent = picture.mostDue
  }
  say("Live.")
}

const fail = () => {
  say(source.readyState === EventSource.CLOSED ? "Not live: reload the page." : "Not live: the worker does not answer.")
}

// A tab that nobody sees keeps no connection: a browser has six for all of its tabs.
const follow = () => {
  source?.close()
  if (!document.hidden) {
    source = new EventSource(from)
    source.onmessage = show
    source.onerror = fail
  }
}
document.addEventListener("visibilitychange", follow)
follow()
