from django.apps import AppConfig


class DemoConfig(AppConfig):
    name = "demo"
    verbose_name = "Demonstration"

    def ready(self) -> None:
        from demo.connecting import answer
        from tools.connectors.in_process import register

        register("airline", answer)
