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
