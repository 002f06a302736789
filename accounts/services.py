from accounts.models import Environment
from common.actors import Actor
from common.commands import command


@command
def ensure_environment(
    slug: str, *, actor: Actor, title: str, is_production: bool = False, position: int = 0
) -> Environment:
    """The environment of that slug, made if there is none."""
    found = Environment.objects.filter(slug=slug).first()
    if found is not None:
        return found
    return Environment.objects.create(
        slug=slug, title=title, is_production=is_production, position=position
    )
