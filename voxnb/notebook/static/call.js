// A call.

export default () => sounding({ label: "Call", makes: [mediaTab, eventsTab, readTab] });
