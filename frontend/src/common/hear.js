// What a widget needs that was late to begin: to hear its kernel nevertheless.

// The model itself, of which a widget is shown only a part: whoever hears of a change is given it.
function whole(model) {
  let own = null;
  const take = (changed) => {
    own = changed;
  };
  model.on("change:hears", take);
  model.set("hears", true);
  model.off("change:hears", take);
  own?.unset?.("hears", { silent: true }); // the kernel never sees it
  return own;
}

// Draw a widget once it hears its kernel. anywidget 0.11 gives a widget two seconds to begin and drops all that is sent
// to one that was later, for good: on a busy machine a panel would stay empty. Such a model is connected anew without
// that gate, which has nothing left to wait for, and asks for the values that were sent meanwhile.
export const hearing = (render) => async (context) => {
  const own = whole(context.model);
  try {
    await own?._handle_comm_msg?.({ content: { data: {} } }); // no message at all: only whether one would pass
  } catch {
    const { _handle_comm_msg: handle } = Object.getPrototypeOf(Object.getPrototypeOf(own));
    own.comm?.on_msg((message) => handle.call(own, message));
    own.comm?.send({ method: "request_state" }, own.callbacks());
  }
  return render(context);
};
