"use strict";
(() => {
  // Everything is there without this: it filters, opens what a link leads to, and copies commands.
  const form = document.getElementById("filters");
  const entries = [...document.querySelectorAll("[data-name]")];
  if (form) {
    const [name, status, family] = ["name", "status", "family"].map((what) => document.getElementById(`filter-${what}`));
    const rows = entries.filter((entry) => entry.tagName === "TR");
    const filter = () => {
      const asked = name.value.trim().toLowerCase();
      for (const entry of entries) {
        const { name: own, status: result, family: kind } = entry.dataset;
        entry.hidden =
          !own.includes(asked) || (status.value && result !== status.value) || (family.value && kind !== family.value);
      }
      const left = rows.filter((row) => !row.hidden).length;
      document.getElementById("filter-count").textContent = left < rows.length ? `${left} of ${rows.length}` : "";
    };
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") at.open = true;
      at.hidden = false;
    }
    target.scrollIntoView();
    if (!target.hasAttribute("tabindex")) target.setAttribute("tabindex", "-1");
    target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);
  // The same link a second time changes no hash.
  addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) reveal();
  });
  reveal();
  if (navigator.clipboard) {
    for (const button of document.querySelectorAll(".copy")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.previousElementSibling.textContent);
        button.textContent = "copied";
        setTimeout(() => (button.textContent = "copy"), 2000);
      });
    }
  }
})();
