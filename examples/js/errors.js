/** The errors of these modules; the message names the value, what is allowed and what to do. */

export class DiffutronError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** An option, or a combination of options, that has no meaning or is not supported here. */
export class OptionError extends DiffutronError {}

/** A prompt, message or text that cannot be generated from. */
export class InputError extends DiffutronError {}

/** Prompt and new tokens together are longer than the model's context. */
export class ContextError extends InputError {}

/** A bundle whose contents are not what its manifest says. */
export class BundleError extends DiffutronError {}

/** The model returned a value that is not finite. */
export class NumericsError extends DiffutronError {}
