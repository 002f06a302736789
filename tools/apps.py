from django.apps import AppConfig


class ToolsConfig(AppConfig):
    name = "tools"
    verbose_name = "Systems and tools"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from audit.change_log import govern
        from tools import models

        govern(models.System, decides=True)
        govern(models.Endpoint, decides=True)
        govern(models.Tool, decides=True)
        govern(models.Secret, decides=True)
        # Wrapping data keys anew is one event for all; a false one opens nothing.
        govern(models.SecretVersion, hidden=("ciphertext",), ignored=("key_id", "wrapped_key"))
