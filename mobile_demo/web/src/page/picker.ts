/** Photos that are chosen, dropped anywhere on the page, or pasted. */
import { block, element } from "./elements";

export function pickPhotos(taken: (file: File) => void): void {
  const input = element("file", HTMLInputElement);
  input.addEventListener("change", () => {
    const file = input.files?.item(0);
    input.value = ""; // the same file may be chosen again
    if (file) taken(file);
  });
  const drop = block("drop");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = event.dataTransfer?.files.item(0);
    if (file && !block("start").hidden) taken(file);
  });
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files.item(0);
    if (file && !block("start").hidden) taken(file);
  });
}
