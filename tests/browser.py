"""A real JupyterLab in a real Chromium, for the tests: start it, run a notebook in it, drive an explorer."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

TOKEN = "a-token-of-the-tests"
SLIDE = {"width": 1280, "height": 720}  # pixels of a projector
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()

# No pop-ups.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}


@contextlib.contextmanager
def jupyterlab(folder, scratch, config=""):
    """Open this environment's JupyterLab in `folder`; its settings and state live in `scratch`. Gives its URL.

    `config`: the course's own settings, its folder lab/, as `make lab` hands them on to a learner.
    """
    for name, values in SETTINGS.items():
        path = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    state = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    command += ["--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True"]
    command += ["--KernelManager.shutdown_wait_time=0.2"]  # seconds; by itself a kernel that is left takes two
    environment = {**os.environ, **{name: str(scratch / part) for name, part in state.items()}}
    environment["JUPYTER_CONFIG_PATH"] = str(config)
    log = scratch / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: server.poll() is not None or answers(f"{url}/api/status?token={TOKEN}"), 60, "JupyterLab")
        assert server.poll() is None, f"JupyterLab did not start:\n{log.read_text()}"
        yield url
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for: {what}"
        time.sleep(0.1)


PICTURES = ".jp-OutputArea-output img"  # those among the outputs
# The code cells of the open notebook, as JupyterLab's own model has them.
CODE_CELLS = '[...window.jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type == "code")'


def open_lab(page, url):
    """Open JupyterLab, with nothing in it, and wait until it can be asked."""
    page.goto(f"{url}/lab?token={TOKEN}&reset")
    page.wait_for_function("() => window.jupyterapp")
    page.evaluate("async () => { await window.jupyterapp.restored }")


def open_notebook(page, name):
    """Open a notebook of the served folder, in place of another that is open, and wait until its kernel can be asked."""
    page.evaluate(
        """async path => {
            const {commands, shell} = window.jupyterapp;
            if (shell.currentWidget?.context?.path == path) return;
            for (const widget of [...shell.widgets("main")]) {
                await widget.sessionContext?.shutdown();
                widget.dispose();  // unsaved: nobody asks
            }
            await commands.execute("docmanager:open", {path});
        }""",
        name,
    )
    kernel = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
    page.wait_for_function(f"() => {kernel}?.status == 'idle'", timeout=120_000)


def choose(page, *items):
    """Choose from JupyterLab's menus, as by the mouse: the menu, then what stands in it."""
    for item in items:
        page.get_by_role("menuitem", name=item, exact=True).click()


def code_cell(page, text=""):
    """The first code cell that holds ``text``, as the page shows it. By its number: to look through all that is shown takes seconds."""
    number = page.evaluate(
        """text => [...window.jupyterapp.shell.currentWidget.content.model.cells].findIndex(
            cell => cell.type == "code" && cell.sharedModel.getSource().includes(text))""",
        text,
    )
    assert number >= 0, f"no code cell holds {text!r}"
    return page.locator(".jp-Notebook-cell").nth(number)


def select(page, text=""):
    """Select the first code cell that holds ``text``, as by a click beside it."""
    code_cell(page, text).locator(".jp-InputPrompt").click()


def wait_until_run(page, text="", seconds=240):
    """Wait until every code cell that holds ``text`` has run (a stored ``execution_count`` counts), or one failed."""
    wait_until(
        lambda: errors(page) or not any(text in source for source in unrun_cells(page)), seconds, f"cells {text!r} run"
    )


def pictures(page):
    """Of each picture among the outputs, as the page shows it: its width in pixels (0: not shown) and its alternative text."""
    return page.locator(PICTURES).evaluate_all(
        "async imgs => { await Promise.allSettled(imgs.map(img => img.decode()));"
        " return imgs.map(img => [img.naturalWidth && img.offsetWidth, img.alt]); }"
    )


def unrun_cells(page):
    """The sources of the code cells that have not run to their end."""
    return page.evaluate(
        f"""() => {CODE_CELLS}.filter(cell => !cell.executionCount || cell.executionState == "running")
            .map(cell => cell.sharedModel.getSource().trim()).filter(source => source)"""
    )


def errors(page):
    """The errors among the outputs, but for those of cells that are meant to raise one."""
    return page.evaluate(
        f"""() => {CODE_CELLS}.filter(cell => !(cell.getMetadata("tags") || []).includes("raises-exception"))
            .flatMap(cell => cell.outputs.toJSON()).filter(output => output.output_type == "error")
            .map(output => output.ename + ": " + output.evalue)"""
    )


class Explorer:
    """The explorer that the cell calling `function` shows: its sliders, its picture, its words."""

    def __init__(self, page, function):
        self.page = page
        self.box = code_cell(page, f"{function}(").locator(".explorer").first
        self.box.wait_for(timeout=30_000)
        self.sliders = self.box.get_by_role("slider").all()
        self.image = self.box.locator("img.explorer-picture, .explorer-picture img").first

    def picture(self):
        """A digest of the picture's bytes, as the browser has them."""
        return self.image.evaluate(
            """async img => {
                const digest = await crypto.subtle.digest("SHA-256", await (await fetch(img.src)).arrayBuffer());
                return Array.from(new Uint8Array(digest)).join();
            }"""
        )

    def words(self):
        return self.box.locator(".explorer-words").inner_text()

    def unlabelled(self):
        """The controls that show no label of their own, as HTML."""
        return self.box.evaluate(
            """box => [...box.querySelectorAll("[role=slider], select, input, textarea, button")].filter(control => {
                const label = control.closest(".jupyter-widgets:not(.widget-box)")?.querySelector(".widget-label");
                return ![label, control].some(e => e && e.offsetParent && e.innerText && e.tagName != "SELECT"
                                                   && e.innerText.trim());
            }).map(control => control.outerHTML.slice(0, 120))"""
        )

    def press(self, slider):
        """One step of the slider by keyboard, towards the end that is farther."""
        slider.focus()
        low, now, high = (float(slider.get_attribute(f"aria-value{name}")) for name in ("min", "now", "max"))
        slider.press("ArrowRight" if high - now >= now - low else "ArrowLeft")

    def latency(self, slider):
        """Press; the milliseconds to the frame that shows the new picture. An error if there is none within ten seconds."""
        self.box.evaluate(
            """box => { window.redraw = new Promise((done, fail) => {
                let pressed;
                setTimeout(() => fail(new Error("no new picture in 10 s")), 10000);
                document.addEventListener("keydown", () => { pressed = performance.now(); }, {capture: true, once: true});
                new MutationObserver(async (changes, observer) => {
                    const img = changes.flatMap(c => [c.target, ...c.addedNodes]).find(e => e.tagName == "IMG");
                    if (!img || pressed === undefined) return;
                    observer.disconnect();
                    await img.decode();
                    requestAnimationFrame(() => done(performance.now() - pressed));
                }).observe(box, {subtree: true, childList: true, attributes: true, attributeFilter: ["src"]});
            }) }"""
        )
        self.press(slider)
        return self.page.evaluate("() => window.redraw")
