from common.errors import GovernanceError, InvalidInput


class InvalidPolicy(InvalidInput):
    """`details["problems"]` is a list of {policy, line, message}."""

    code = "invalid_policy"
    sentence = "The policy text is not valid."


class UnknownRelease(GovernanceError):
    code = "unknown_release"
    sentence = "There is no such policy release."


class ReleaseNotADraft(GovernanceError):
    code = "release_not_a_draft"
    sentence = "Only a draft can be published."


class ReleaseUnchanged(GovernanceError):
    code = "release_unchanged"
    sentence = "This is what the live release says already: rules and tools are the same."


class ReleaseOutOfDate(GovernanceError):
    code = "release_out_of_date"
    sentence = "Tools have changed since this release was checked: make a new one."


class TooManyQuestions(GovernanceError):
    code = "too_many_questions"
    sentence = "People have several requests of this agent before them: wait for their answers."


class ElevationExpired(GovernanceError):
    code = "elevation_expired"
    sentence = "This elevation is over, or was never given."


class ReservedRole(InvalidInput):
    code = "reserved_role"
    sentence = "Policies know by this name whoever acts by an elevation."


class NotGranted(GovernanceError):
    code = "not_granted"
    sentence = "There is no such grant."


class NothingToRelease(GovernanceError):
    code = "nothing_to_release"
    sentence = "There is no policy to release."
