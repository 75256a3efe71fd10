"use strict";
// Puts a slider above each row of images of one size: it uncovers one of two images, chosen in two menus. Without this script
// the images simply stand side by side.
for (const row of document.querySelectorAll(".images")) {
  const images = [...row.querySelectorAll("img")];
  const same = images.every((image) => image.getAttribute("width") === images[0].getAttribute("width")
    && image.getAttribute("height") === images[0].getAttribute("height"));
  if (images.length < 2 || !same) continue;
  const make = (name, className, parent) => {
    const element = document.createElement(name);
    element.className = className;
    parent.append(element);
    return element;
  };
  const box = document.createElement("div");
  box.className = "compare";
  const menus = make("div", "menus", box);
  const stage = make("div", "stage", box);
  stage.style.aspectRatio = `${images[0].getAttribute("width")} / ${images[0].getAttribute("height")}`;
  const side = (first, className) => {
    const menu = make("select", className, menus);
    menu.setAttribute("aria-label", className === "left" ? "image on the left" : "image on the right");
    images.forEach((image, at) => menu.add(new Option(image.alt, at, at === first, at === first)));
    const shown = make("img", className, stage);
    const update = () => { shown.src = images[menu.value].src; shown.alt = images[menu.value].alt; };
    menu.addEventListener("change", update);
    update();
  };
  side(images.length - 1, "right");
  side(0, "left");
  menus.prepend(menus.lastChild);
  make("div", "line", stage);
  const range = make("input", "", stage);
  Object.assign(range, { type: "range", min: 0, max: 1000, value: 500 });
  range.setAttribute("aria-label", "how much of the left image is shown");
  const slide = () => stage.style.setProperty("--at", `${range.value / 10}%`);
  range.addEventListener("input", slide);
  slide();
  row.before(box);
}
