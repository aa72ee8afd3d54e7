/* Search where a page is opened from the disk: browsers start no Worker from there, so one runs in a hidden frame.
   Only what the theme's search asks of a Worker is here: postMessage, onmessage, addEventListener, importScripts. */
if (location.protocol === "file:") {
  const INSIDE = `
    self.postMessage = data => parent.dispatchEvent(new MessageEvent("message", {data, source: self}))
    self.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done, failed) => {
      const script = document.createElement("script")
      script.src = url
      script.onload = done
      script.onerror = failed
      document.body.appendChild(script)
    })), Promise.resolve())`
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.appendChild(this.frame)
      const inner = this.frame.contentWindow
      addEventListener("message", event => {
        if (event.source !== inner) return
        const message = new MessageEvent("message", {data: event.data})
        this.dispatchEvent(message)
        if (this.onmessage) this.onmessage(message)
      })
      inner.document.open()
      inner.document.write(`<html><body><script>${INSIDE}<\/script></body></html>`)
      inner.document.close()
      this.ready = inner.importScripts(url)
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data})))
    }
    terminate() {
      this.frame.remove()
    }
  }
}
