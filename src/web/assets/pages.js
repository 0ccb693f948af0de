// Buttons that copy the text before them, and the choice of two answers to compare.
for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
const compared = document.querySelector("form.compared");
if (compared) {
  const button = compared.querySelector("button");
  const count = () => { button.disabled = compared.querySelectorAll(":checked").length !== 2; };
  compared.addEventListener("change", count);
  count();
}
