"""Fill the named slots of a template, each within its bounds."""
