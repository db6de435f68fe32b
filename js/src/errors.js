/** The errors of this package. A message names the value, what is allowed, and what to do next. */

export class DiffutronError extends Error {
  // Names are written out, because a bundler may shorten those of classes.
  get name() {
    return "DiffutronError";
  }
}

/** An option, or a combination of options, that has no meaning or is not supported here. */
export class OptionError extends DiffutronError {
  get name() {
    return "OptionError";
  }
}

/** A prompt, message or text that cannot be generated from. */
export class InputError extends DiffutronError {
  get name() {
    return "InputError";
  }
}

/** Prompt and new tokens together exceed the model's context. */
export class ContextError extends InputError {
  get name() {
    return "ContextError";
  }
}

/** A bundle whose contents do not match its manifest. */
export class BundleError extends DiffutronError {
  get name() {
    return "BundleError";
  }
}

/** A server has no such file. */
export class MissingFileError extends BundleError {
  get name() {
    return "MissingFileError";
  }
}

/** A server cannot be reached. */
export class NetworkError extends DiffutronError {
  get name() {
    return "NetworkError";
  }
}

/** The model returned a value that is not finite. */
export class NumericsError extends DiffutronError {
  get name() {
    return "NumericsError";
  }
}
