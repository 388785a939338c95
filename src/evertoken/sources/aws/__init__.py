"""Amazon Web Services: credentials that sign requests. Each way to obtain them has its own file."""

from evertoken.sources.aws._credentials import AwsCredentials
from evertoken.sources.aws._environment import from_environment
from evertoken.sources.aws.assume_role import AssumeRole, AssumeRoleWithWebIdentity
from evertoken.sources.aws.botocore_session import BotocoreSession
from evertoken.sources.aws.container_role import ContainerRole
from evertoken.sources.aws.instance_role import InstanceRole
from evertoken.sources.aws.profile import Profile

__all__ = [
    "AssumeRole",
    "AssumeRoleWithWebIdentity",
    "AwsCredentials",
    "BotocoreSession",
    "ContainerRole",
    "InstanceRole",
    "Profile",
    "from_environment",
]
