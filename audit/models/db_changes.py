"""Changes captured by the database's own triggers, until compared with the change log."""

from django.db import models


class DbChange(models.Model):
    """One change of a governed table's row, or one entry of the change log.

    `transaction` is PostgreSQL's; SQLite has no name for one.
    """

    at = models.DateTimeField()
    transaction = models.CharField(max_length=20)
    table = models.CharField(max_length=100)
    row = models.CharField(max_length=64)
    operation = models.CharField(max_length=10)
    columns = models.CharField(max_length=500)
    database_user = models.CharField(max_length=64)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["at"], name="dbchange_by_time")]

    def __str__(self) -> str:
        return f"{self.operation} of {self.table} {self.row}"
