// A conversation.

export default () => sounding({ label: "Conversation", makes: [chatTab, contextTab, eventsTab, mediaTab] });
