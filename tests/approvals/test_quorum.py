"""The database refuses a request that needs fewer people than its tier does."""

import pytest
from django.db import DatabaseError, transaction

from approvals.models import ApprovalRequest
from common.ids import uuid7
from tests.factories import Governed

pytestmark = pytest.mark.django_db


def copied(request: ApprovalRequest, quorum: int) -> None:
    request.pk, request.subject_id, request.quorum = uuid7(), str(uuid7()), quorum
    request.save(force_insert=True)


@pytest.fixture
def asked(governed: Governed) -> ApprovalRequest:
    governed.pay(governed.run(), 5_000)
    found = ApprovalRequest.objects.get()
    assert found.quorum == 2
    return found


@pytest.mark.parametrize("quorum", [0, 1])
def test_a_row_that_asks_for_fewer_is_refused(asked: ApprovalRequest, quorum: int) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        copied(asked, quorum)
    assert ApprovalRequest.objects.count() == 1


def test_one_that_asks_for_as_many_is_not(asked: ApprovalRequest) -> None:
    copied(asked, 2)
    assert ApprovalRequest.objects.count() == 2
