// Steps through the figures of recorded flows. Without this script a page
// shows the whole figure and all of its steps.

"use strict";

(() => {
    const KEYS = {
        ArrowLeft: (at) => at - 1,
        ArrowRight: (at) => at + 1,
        Home: () => 1,
        End: () => Infinity,
    };
    const still = window.matchMedia("(prefers-reduced-motion: reduce)");

    function button(text, label, action) {
        const made = document.createElement("button");
        made.type = "button";
        made.textContent = text;
        made.setAttribute("aria-label", label);
        made.addEventListener("click", action);
        return made;
    }

    function play(figure) {
        const words = Array.from(figure.querySelectorAll(".flow-steps > li"));
        const picture = figure.querySelector(".flow-picture");
        const drawn = Array.from(figure.querySelectorAll(".flow-step"));
        const heads = figure.querySelector(".flow-head")?.offsetHeight ?? 0;
        const last = words.length;
        let now = 1;
        let goal = 0;

        const back = button("Back", "Step back", () => show(now - 1));
        const next = button("Next", "Next step", () => show(now + 1));
        const all = button("All steps", "Show all steps at once", () => {
            const pressed = figure.classList.toggle("flow-all");
            all.setAttribute("aria-pressed", pressed);
            show(now);
        });
        all.setAttribute("aria-pressed", "false");

        const slider = document.createElement("input");
        slider.type = "range";
        slider.min = 1;
        slider.max = last;
        slider.setAttribute("aria-label", "Step");
        slider.addEventListener("input", () => show(Number(slider.value)));

        const status = document.createElement("p");
        status.className = "flow-status";
        status.setAttribute("aria-live", "polite");

        const controls = document.createElement("div");
        controls.className = "flow-controls";
        controls.setAttribute("role", "group");
        controls.setAttribute("aria-label", "Steps of the figure");
        controls.append(back, next, slider, all, status);
        picture.before(controls);

        // To the middle below the heads, or as much of a tall step as there
        // is room for. Smoothly; but whoever steps on before it is there is
        // faster than that: then at once.
        function scroll() {
            const box = drawn[now - 1].getBoundingClientRect();
            const frame = picture.getBoundingClientRect();
            const room = picture.clientHeight - heads - box.height;
            const above = heads + Math.max(room / 2, 0);
            const top = picture.scrollTop + box.top - frame.top - above;
            const arrived = Math.abs(picture.scrollTop - goal) < 2;
            const most = picture.scrollHeight - picture.clientHeight;
            goal = Math.min(Math.max(top, 0), most);
            picture.scrollTo({
                top: goal,
                behavior: arrived && !still.matches ? "smooth" : "instant",
            });
        }

        function show(step) {
            now = Math.min(Math.max(step, 1), last);
            for (const steps of [drawn, words]) {
                steps.forEach((step, index) => {
                    step.classList.toggle("flow-now", index + 1 === now);
                    step.classList.toggle("flow-later", index + 1 > now);
                });
            }
            back.disabled = now === 1;
            next.disabled = now === last;
            slider.value = now;
            const title = words[now - 1].querySelector("strong").textContent;
            status.textContent = `Step ${now} of ${last}: ${title}`;
            slider.setAttribute("aria-valuetext", status.textContent);
            scroll();
        }

        // mdBook turns pages with the same keys: not while a figure has the
        // focus.
        figure.addEventListener("keydown", (event) => {
            const step = KEYS[event.key];
            if (
                !step ||
                event.altKey ||
                event.ctrlKey ||
                event.metaKey ||
                event.shiftKey
            ) {
                return;
            }
            event.preventDefault();
            event.stopPropagation();
            show(step(now));
        });
        drawn.forEach((step, index) => {
            step.addEventListener("click", () => show(index + 1));
        });
        window.addEventListener("resize", scroll);

        figure.tabIndex = 0;
        figure.classList.add("flow-live");
        // A check's figure is opened where the check fails.
        const fails = (step) => step.classList.contains("flow-fails");
        show(drawn.findIndex(fails) + 1);
    }

    document.querySelectorAll("figure.flow").forEach(play);
})();
