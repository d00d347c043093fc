// A store of conversations.

export default {
  render: (place) => tabbed(place, { label: "Conversations", makes: [listTab, readTab, compareTab] }),
};
