/** The errors of this package. A message names the value, what is allowed, and what to do next. */

export class DiffutronError extends Error {
  get name() {
    return this.constructor.name;
  }
}

/** An option, or a combination of options, that has no meaning or is not supported here. */
export class OptionError extends DiffutronError {}

/** A prompt, message or text that cannot be generated from. */
export class InputError extends DiffutronError {}

/** Prompt and new tokens together exceed the model's context. */
export class ContextError extends InputError {}

/** A bundle whose contents do not match its manifest. */
export class BundleError extends DiffutronError {}

/** A server has no such file. */
export class MissingFileError extends BundleError {}

/** A server cannot be reached. */
export class NetworkError extends DiffutronError {}

/** The model returned a value that is not finite. */
export class NumericsError extends DiffutronError {}
