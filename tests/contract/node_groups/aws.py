"""Auto Scaling groups and EKS node groups at moto's server, behind a gate that has AWS's faults.

moto answers, over HTTP, as AWS does when all is well: its instances are there at once, and it never runs out of them.
Throttling, answers that are lost, and a zone without instances are the gate's. What EKS and Auto Scaling share of a
managed node group moto does not know, so the bed makes the Auto Scaling group that EKS names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final, Literal
from urllib.parse import parse_qs

import aiohttp
import boto3
from aiohttp import web
from moto.backends import get_backend

from shared.adapters.clock import SystemClock
from shared.adapters.node_groups.aws import AwsProvider
from shared.adapters.node_groups.aws_calls import AwsConnection
from shared.events.v1.clusters import AwsAutoScalingGroup, AwsEksNodeGroup
from shared.model.node_groups import NodeRef
from tests.contract.node_groups.beds import Bed
from tests.contract.node_groups.webhook import serving

ACCOUNT: Final = "123456789012"
REGION: Final = "eu-west-1"
ZONE: Final = "eu-west-1a"
EKS_CLUSTER: Final = "west"
MOST: Final = 10
# As in AWS's guide to messages of failed launches.
SOLD_OUT: Final = (
    "We currently do not have sufficient m7i.large capacity in the Availability Zone you requested (eu-west-1a). "
    "Our system will be working on provisioning additional capacity. Launching EC2 instance failed."
)
_XMLNS: Final = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
_ACTIVITY: Final = (
    "<member><ActivityId>{id}</ActivityId><AutoScalingGroupName>{group}</AutoScalingGroupName><Cause>asked</Cause>"
    "<Description>Launching a new EC2 instance</Description><StartTime>2026-11-30T04:00:00Z</StartTime>"
    "<StatusCode>{status}</StatusCode><StatusMessage>{message}</StatusMessage></member>"
)


class Gate:
    """Between provider and moto. `asked` are the actions, as policies name them.

    `failing` says how the next requests are answered: `lost` is carried out, and the connection closed without a word;
    any other word is a code of AWS's, whose request moto never sees. `stock` is what a group that grows finds: `late`
    instances are not there, and nothing is said of them yet.
    """

    def __init__(self, moto: str, session: aiohttp.ClientSession) -> None:
        self.asked: list[str] = []
        self.failing: list[str] = []
        self.stock: Literal["some", "none", "late"] = "some"
        self.activities: list[tuple[str, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self._moto = moto
        self._session = session

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        action = form.get("Action", "DescribeNodegroup")
        self.asked.append(action)
        await self.open.wait()
        fault = self.failing.pop(0) if self.failing else ""
        if fault not in {"", "lost"}:
            return self._refusal(fault)
        if action == "DescribeScalingActivities":
            answer: web.StreamResponse = self._told(form["AutoScalingGroupName"])
        elif action == "SetDesiredCapacity" and self.stock != "some":
            answer = self._launch_none(form["AutoScalingGroupName"], int(form["DesiredCapacity"]))
        else:
            answer = await self._forwarded(request, body)
        if fault == "lost":
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _forwarded(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with self._session.request(
            request.method, self._moto + str(request.rel_url), data=body, headers=headers
        ) as response:
            # EKS says in a header which error it is.
            passed = {name: value for name, value in response.headers.items() if name.lower().startswith("x-amzn")}
            body = await response.read()
            return web.Response(status=response.status, body=body, content_type=response.content_type, headers=passed)

    def _refusal(self, code: str) -> web.Response:
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>the gate says so</Message></Error>"
        return _xml(f'<ErrorResponse xmlns="{_XMLNS}">{error}<RequestId>1</RequestId></ErrorResponse>', 400)

    def _told(self, group: str) -> web.Response:
        members = [
            _ACTIVITY.format(id=len(self.activities) - age, group=group, status=status, message=message)
            for age, (status, message) in enumerate(reversed(self.activities))
        ]
        result = f"<DescribeScalingActivitiesResult><Activities>{''.join(members)}</Activities>"
        return _xml(
            f'<DescribeScalingActivitiesResponse xmlns="{_XMLNS}">{result}</DescribeScalingActivitiesResult>'
            "</DescribeScalingActivitiesResponse>"
        )

    def _launch_none(self, name: str, size: int) -> web.Response:
        group = scaling_group(name)
        if self.stock == "none" and size > len(group.instance_states):
            self.activities.append(("Failed", SOLD_OUT))
        group.desired_capacity = size
        return _xml(f'<SetDesiredCapacityResponse xmlns="{_XMLNS}"></SetDesiredCapacityResponse>')


def _xml(body: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=body, content_type="text/xml")


def scaling_group(name: str) -> Any:
    """What moto has behind it."""
    return get_backend("autoscaling")[ACCOUNT][REGION].autoscaling_groups[name]


@cache
def client_of(url: str, service: str) -> Any:
    """Making one takes a second: EC2's calls are many."""
    return boto3.Session("testing", "testing", region_name=REGION).client(service, endpoint_url=url)


@cache
def image_of(url: str) -> str:
    """Of hundreds that moto lists, which takes it longer than all else that a test asks."""
    found: str = client_of(url, "ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    return found


class Cloud:
    """What somebody does at AWS who has an account there."""

    def __init__(self, url: str) -> None:
        self._url = url

    def client(self, service: str) -> Any:
        return client_of(self._url, service)

    def make_group(self, name: str) -> None:
        ec2 = self.client("ec2")
        template = {"ImageId": image_of(self._url), "InstanceType": "m7i.large"}
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=template)
        self.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchTemplate={"LaunchTemplateName": name},
            MinSize=0,
            MaxSize=MOST,
            AvailabilityZones=[ZONE],
        )

    def make_node_group(self, name: str) -> str:
        """A managed node group of EKS. Returns the name of its Auto Scaling group."""
        eks, role = self.client("eks"), f"arn:aws:iam::{ACCOUNT}:role/nodes"
        if not eks.list_clusters()["clusters"]:
            eks.create_cluster(name=EKS_CLUSTER, roleArn=role, resourcesVpcConfig={"subnetIds": ["subnet-1"]})
        made = eks.create_nodegroup(clusterName=EKS_CLUSTER, nodegroupName=name, subnets=["subnet-1"], nodeRole=role)
        group = str(made["nodegroup"]["resources"]["autoScalingGroups"][0]["name"])
        self.make_group(group)
        return group

    def nodes(self, group: str) -> list[NodeRef]:
        """Its instances as nodes: each joins at once."""
        answer = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])
        found = [(item["AvailabilityZone"], item["InstanceId"]) for item in answer["AutoScalingGroups"][0]["Instances"]]
        return [NodeRef(f"node-of-{name}", f"aws:///{zone}/{name}") for zone, name in found]


class AwsBed:
    """One group at moto, asked through the gate."""

    def __init__(self, moto: str, gate: Gate, url: str, kind: str, name: str) -> None:
        self.name, self.gate, self._url, self._kind = name, gate, url, kind
        self.cloud = Cloud(moto)
        self.scaling = name if kind == "asg" else self.cloud.make_node_group(name)
        if kind == "asg":
            self.cloud.make_group(name)
        self._connections: list[AwsConnection] = []
        self.provider = self.provider_of(name)
        self.unknown = self.provider_of("no-such-group")
        self.unreachable = self.provider_of(name, url="http://127.0.0.1:9")

    def provider_of(self, name: str, *, url: str = "", read_s: float = 5.0) -> AwsProvider:
        connection = AwsConnection(endpoint=url or self._url, read_s=read_s)
        self._connections.append(connection)
        group = (
            AwsAutoScalingGroup(region=REGION, name=name)
            if self._kind == "asg"
            else AwsEksNodeGroup(region=REGION, cluster=EKS_CLUSTER, name=name)
        )
        return AwsProvider(connection.caller(REGION), SystemClock(), group)

    async def nodes(self) -> list[NodeRef]:
        return await asyncio.to_thread(self.cloud.nodes, self.scaling)

    def sell_out(self) -> None:
        self.gate.stock = "none"

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


@asynccontextmanager
async def aws_bed(moto: str, kind: str, name: str) -> AsyncIterator[AwsBed]:
    """`kind` is `asg` or `eks`. The environment has to have credentials (`aws_environment`)."""
    async with aiohttp.ClientSession() as session:
        gate = Gate(moto, session)
        async with serving(gate.application()) as url:
            bed = await asyncio.to_thread(AwsBed, moto, gate, url, kind, name)
            try:
                yield bed
            finally:
                gate.open.set()
                await bed.close()


@asynccontextmanager
async def aws(moto: str, kind: str, name: str) -> AsyncIterator[Bed]:
    async with aws_bed(moto, kind, name) as bed:
        yield Bed(bed.provider, bed.nodes, bed.unreachable, bed.unknown, bed.sell_out)
