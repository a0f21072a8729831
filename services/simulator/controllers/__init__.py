"""What a cluster does by itself: each controller reconciles keys against the state, in virtual time. Pure."""
