"""Names of the rights that decide which values of the log a person sees."""

# Values that stand beside events.
SEE_VALUES = "audit.view_eventpayload"
# Among them and elsewhere, values that a tool or workflow declares to be personal or sensitive.
SEE_SENSITIVE = "audit.see_sensitive"
