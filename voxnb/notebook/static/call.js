// A call. Its sound belongs to the model, not to a view: views come and go, and the last one that goes lets it go.

export default () => {
  let sound = null;
  let views = 0;
  return {
    initialize({ model }) {
      sound = browserSound(model);
      return () => sound.off("the widget was closed");
    },
    render(place) {
      views += 1;
      const end = tabbed(place, { label: "Call", makes: [(tools) => mediaTab({ ...tools, sound }), eventsTab, readTab] });
      return () => {
        end();
        views -= 1;
        if (views === 0) sound.off("the view was closed");
      };
    },
  };
};
