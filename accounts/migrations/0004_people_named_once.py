from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_keys_of_people")]
    operations = [
        migrations.AlterField(
            "user", "name_key", models.CharField(editable=False, max_length=300, unique=True)
        ),
        migrations.AddConstraint(
            "user",
            models.UniqueConstraint(
                condition=models.Q(("mail_key", ""), _negated=True),
                fields=("mail_key",),
                name="user_mail_once",
            ),
        ),
        migrations.AddConstraint(
            "user",
            models.CheckConstraint(
                condition=models.Q(("name_key", ""), _negated=True), name="user_name_is_readable"
            ),
        ),
    ]
