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
// A click on a map asks the question of that place by the form beside it.
const map = document.querySelector(".map[data-axes]");
map?.addEventListener("click", (event) => {
  const plot = map.querySelector(".frame").getBoundingClientRect();
  const axes = JSON.parse(map.dataset.axes);
  const at = [(event.clientX - plot.left) / plot.width, (plot.bottom - event.clientY) / plot.height];
  if (at.slice(0, axes.length).some((share) => share < 0 || share > 1)) return;
  const form = document.querySelector("form.place");
  for (const [place, shares] of axes.entries()) {
    const far = (share) => Math.abs(share - at[place]);
    const nearest = shares.reduce((best, share, index) => (far(share) < far(shares[best]) ? index : best), 0);
    form.elements[`${"xy"[place]}_at`].selectedIndex = nearest;
  }
  form.requestSubmit(form.querySelector("button.main"));
});
