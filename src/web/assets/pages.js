// Buttons that copy the text before them, also where htmx has put them, and the choice of two answers to compare.
const show = (within) => {
  if (!navigator.clipboard) return;
  for (const button of within.querySelectorAll("button.copy")) button.hidden = false;
};
show(document);
document.addEventListener("htmx:load", (event) => show(event.detail.elt));
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});
const compared = document.querySelector("form.compared");
if (compared) {
  const button = compared.querySelector("button");
  const count = () => { button.disabled = compared.querySelectorAll(":checked").length !== 2; };
  compared.addEventListener("change", count);
  count();
}
// A click on a map goes to the question of that place, to be asked.
const map = document.querySelector(".map[data-ask]");
map?.addEventListener("click", (event) => {
  const plot = map.querySelector(".frame").getBoundingClientRect();
  const axes = JSON.parse(map.dataset.axes);
  const at = [(event.clientX - plot.left) / plot.width, (plot.bottom - event.clientY) / plot.height];
  if (at.slice(0, axes.length).some((share) => share < 0 || share > 1)) return;
  const target = new URL(map.dataset.ask, location.href);
  for (const [place, [name, values]] of axes.entries()) {
    const far = (value) => Math.abs(value[1] - at[place]);
    const nearest = values.reduce((best, value) => (far(value) < far(best) ? value : best));
    target.searchParams.set("xy"[place], name);
    target.searchParams.set(`${"xy"[place]}_at`, nearest[0]);
  }
  location.assign(target);
});
