// A conversation.

export default {
  render: (place) => tabbed(place, { label: "Conversation", makes: [chatTab, contextTab, eventsTab] }),
};
