from common.errors import GovernanceError, InvalidInput


class InvalidPolicy(InvalidInput):
    """`details["problems"]` is a list of {policy, line, message}."""

    code = "invalid_policy"
    sentence = "The policy text is not valid."


class NoSuchRelease(GovernanceError):
    code = "no_such_release"
    sentence = "There is no such policy release."


class ReleaseNotADraft(GovernanceError):
    code = "release_not_a_draft"
    sentence = "Only a draft can be published."


class ReleaseOutOfDate(GovernanceError):
    code = "release_out_of_date"
    sentence = "Tools have changed since this release was checked: make a new one."


class AlreadyAsked(GovernanceError):
    code = "already_asked"
    sentence = "People are being asked about this already."


class NothingToRelease(GovernanceError):
    code = "nothing_to_release"
    sentence = "There is no policy to release."
