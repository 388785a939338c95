"""The roles of the machine: that of the container, and that of the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._model.errors import GrantRejected
from evertoken.sources.aws.container_role import ContainerRole, container_role
from evertoken.sources.aws.instance_role import InstanceRole

if TYPE_CHECKING:
    from evertoken.sources.aws._settings import Settings
    from evertoken.sources.aws._variables import Variables

__all__ = ["Machine"]


@final
class Machine:
    """
    Makes the sources for the machine's roles. The source of the instance is kept, because it has a memory.

    Args:
        environ: The environment.

        client: The HTTP client to use.
    """

    def __init__(self, environ: Variables, client: Any) -> None:
        self._environ = environ
        self._client = client
        self._instance: tuple[str, InstanceRole] | None = None

    def container(self) -> ContainerRole | None:
        """
        Return the role that ECS or EKS announces, or None.

        Raises:
            GrantRejected: The announced URL is not allowed.
        """
        try:
            return container_role(self._environ, client=self._client)
        except ValueError as error:
            failure = GrantRejected("invalid_request", f"the role of the container cannot be asked for: {error}")
        raise failure

    def instance(self, settings: Settings) -> InstanceRole | None:
        """
        Return the role of the instance, or None if `AWS_EC2_METADATA_DISABLED` is true.

        Raises:
            GrantRejected: The endpoint of the metadata service is not a URL.
        """
        if self._environ.says("AWS_EC2_METADATA_DISABLED"):
            return None
        endpoint = settings.metadata()
        if self._instance is not None and self._instance[0] == endpoint:
            return self._instance[1]
        try:
            role = InstanceRole(endpoint=endpoint, client=self._client)
        except ValueError as error:
            where = "AWS_EC2_METADATA_SERVICE_ENDPOINT (or ec2_metadata_service_endpoint)"
            failure = GrantRejected("invalid_request", f"{where}: {error}")
        else:
            self._instance = endpoint, role
            return role
        raise failure
