"""``powercut study``: one file a study, and what studies share."""
