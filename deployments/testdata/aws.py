"""AWS in a process: moto, with the parts of CloudFormation that it lacks.

    aws.py

listens on loopback at a port of the system's choice and prints its address.

What is added here:
- the transform AWS::LanguageExtensions (expand.py);
- dynamic references to SSM parameters;
- resource types that moto has an API for, and whose creation by CloudFormation
  it lacks or does by halves: each is created by that API, which botocore checks
  the parameters of first, against AWS's own description of it;
- change sets: outputs and parameters after them, and updates, of which only
  those are known that a new release of the functions makes.

What is not: whether the real AWS does what its API promises.
"""

import http.server  # noqa: F401  (werkzeug wants it loaded before moto)
import json
import logging
import os
import re

for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
    os.environ.setdefault(name, "test")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
os.environ.setdefault("MOTO_S3_CUSTOM_ENDPOINTS", "")

import boto3
import cfnlint.decode.cfn_yaml as cfn_yaml
import moto.cloudformation.models as models
import moto.cloudformation.parsing as parsing
from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel
from moto.elbv2.models import FakeLoadBalancer, FakeTargetGroup
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from expand import expand

endpoint = None


def client(service, region):
    return boto3.client(service, region_name=region, endpoint_url=endpoint)


# ------------------------------------------------------------- transform --
backend = models.CloudFormationBackend
create_change_set = backend.create_change_set


def create_transformed_change_set(self, *args, **kwargs):
    # All parameters, those of before and the defaults too: what a change set
    # compares to tell whether anything changes. Lists come as moto keeps them.
    values = {name: p.get("Default") for name, p in cfn_yaml.loads(kwargs["template"]).get("Parameters", {}).items()}
    values |= {name: value for name, value in kwargs["parameters"].items() if name in values}
    kwargs["parameters"] = {
        name: ",".join(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
        if value is not None
    }
    kwargs["template"] = json.dumps(expand(kwargs["template"], kwargs["parameters"]))
    return create_change_set(self, *args, **kwargs)


backend.create_change_set = create_transformed_change_set

# ---------------------------------------------------- dynamic references --
reference = re.compile(r"\{\{resolve:ssm:([^:}]+)\}\}")
clean = parsing.clean_json


def clean_json(value, resources):
    value = clean(value, resources)
    # It comes by once before Fn::Sub has filled it in.
    if isinstance(value, str) and "{{resolve:" in value and "${" not in value:
        ssm = client("ssm", resources["AWS::Region"])

        def look_up(match):
            try:
                return ssm.get_parameter(Name=match[1])["Parameter"]["Value"]
            except ssm.exceptions.ParameterNotFound as error:
                raise ValidationError(message=f"Parameter {match[1]} not found") from error

        value = reference.sub(look_up, value)
        if "{{resolve:" in value:
            raise ValidationError(message=f"cannot resolve {value}")
    return value


parsing.clean_json = clean_json


# -------------------------------------------------------- resource types --
def lower(value):
    """Members as the APIs with camelCase have them."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: lower(member) for key, member in value.items()}
    if isinstance(value, list):
        return [lower(member) for member in value]
    return value


def typed(value, shape):
    """Values as botocore wants them: CloudFormation takes "60" for 60."""
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict):
        unknown = set(value) - set(shape.members)
        if unknown:
            raise ValidationError(message=f"{shape.name} has no {sorted(unknown)}")
        return {key: typed(member, shape.members[key]) for key, member in value.items()}
    if kind == "list" and isinstance(value, list):
        return [typed(member, shape.member) for member in value]
    if kind in ("integer", "long") and isinstance(value, str):
        return int(value)
    if kind in ("float", "double"):
        return float(value)
    if kind == "boolean" and isinstance(value, str):
        return value.lower() == "true"
    if kind == "string" and not isinstance(value, str):
        return json.dumps(value)
    return value


def call(service, operation, region, parameters):
    """Calls an API with the properties of a resource."""
    api = client(service, region)
    shape = api.meta.service_model.operation_model(api.meta.method_to_api_mapping[operation]).input_shape
    return getattr(api, operation)(**typed(parameters, shape))


def resource(kind, name_property, create, attributes=()):
    """Declares a resource type. create gets the name, the properties and the
    region, and returns the physical id and the values of the attributes."""

    class Model(CloudFormationModel):
        __module__ = "moto.added"  # moto takes the name of the service from it

        def __init__(self, physical, values):
            self.physical_resource_id = physical
            self.values = values

        @staticmethod
        def cloudformation_name_type():
            return name_property

        @staticmethod
        def cloudformation_type():
            return kind

        @classmethod
        def has_cfn_attr(cls, attribute):
            return attribute in attributes

        def get_cfn_attribute(self, attribute):
            return self.values[attribute]

        @classmethod
        def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
            created = create(resource_name, cloudformation_json["Properties"], region_name)
            physical, values = created if isinstance(created, tuple) else (created, {})
            return cls(physical, values)

        @classmethod
        def update_from_cloudformation_json(
            cls, original_resource, new_resource_name, cloudformation_json, account_id, region_name
        ):
            return original_resource

        @classmethod
        def delete_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name):
            pass

        def is_created(self):
            return True

    return Model


def function(name, properties, region):
    made = call("lambda", "create_function", region, properties)
    return properties["FunctionName"], {"Arn": made["FunctionArn"]}


def version(name, properties, region):
    made = call("lambda", "publish_version", region, properties)
    return f"{made['FunctionArn'].removesuffix(':' + made['Version'])}:{made['Version']}", {"Version": made["Version"]}


def alias(name, properties, region):
    return call("lambda", "create_alias", region, properties)["AliasArn"]


def event_invoke_config(name, properties, region):
    call("lambda", "put_function_event_invoke_config", region, properties)
    return f"{properties['FunctionName']}|{properties['Qualifier']}"


def alarm(name, properties, region):
    properties.setdefault("AlarmName", name)
    call("cloudwatch", "put_metric_alarm", region, properties)
    found = client("cloudwatch", region).describe_alarms(AlarmNames=[properties["AlarmName"]])["MetricAlarms"]
    return properties["AlarmName"], {"Arn": found[0]["AlarmArn"]}


def delivery_stream(name, properties, region):
    properties.setdefault("DeliveryStreamName", name)
    arn = call("firehose", "create_delivery_stream", region, properties)["DeliveryStreamARN"]
    return properties["DeliveryStreamName"], {"Arn": arn}


def stream(name, properties, region):
    properties = dict(properties)
    named = {"StreamName": properties.pop("Name", name)}
    hours, encryption = properties.pop("RetentionPeriodHours"), properties.pop("StreamEncryption")
    call("kinesis", "create_stream", region, named | properties)
    if int(hours) > 24:
        call("kinesis", "increase_stream_retention_period", region, named | {"RetentionPeriodHours": hours})
    call("kinesis", "start_stream_encryption", region, named | encryption)
    made = client("kinesis", region).describe_stream_summary(**named)["StreamDescriptionSummary"]
    return named["StreamName"], {"Arn": made["StreamARN"]}


def task_definition(name, properties, region):
    return call("ecs", "register_task_definition", region, lower(properties))["taskDefinition"]["taskDefinitionArn"]


def service(name, properties, region):
    made = call("ecs", "create_service", region, lower({"ServiceName": name} | properties))["service"]
    return made["serviceArn"], {"Name": made["serviceName"]}


def bucket(name, properties, region):
    properties = dict(properties)
    call("s3", "create_bucket", region, {"Bucket": name})
    for member, (operation, argument) in {
        "BucketEncryption": ("put_bucket_encryption", "ServerSideEncryptionConfiguration"),
        "OwnershipControls": ("put_bucket_ownership_controls", "OwnershipControls"),
        "PublicAccessBlockConfiguration": ("put_public_access_block", "PublicAccessBlockConfiguration"),
        "VersioningConfiguration": ("put_bucket_versioning", "VersioningConfiguration"),
        "LifecycleConfiguration": ("put_bucket_lifecycle_configuration", "LifecycleConfiguration"),
    }.items():
        if member in properties:
            value = in_s3(member, properties.pop(member))
            call("s3", operation, region, {"Bucket": name, argument: value})
    if properties:
        raise ValidationError(message=f"nothing is known here of {sorted(properties)} of a bucket")
    return name, {"Arn": f"arn:aws:s3:::{name}"}


def in_s3(member, value):
    """What CloudFormation calls otherwise than S3 does."""
    if member == "BucketEncryption":
        rules = value["ServerSideEncryptionConfiguration"]
        return {"Rules": [{"ApplyServerSideEncryptionByDefault": r["ServerSideEncryptionByDefault"]} for r in rules]}
    if member == "LifecycleConfiguration":
        return {"Rules": [lifecycle(rule) for rule in value["Rules"]]}
    return value


def lifecycle(rule):
    rule = {"ID" if key == "Id" else key: member for key, member in rule.items()}
    rule["Filter"] = {"Prefix": rule.pop("Prefix", "")}
    if "ExpirationInDays" in rule:
        rule["Expiration"] = {"Days": rule.pop("ExpirationInDays")}
    return rule


def bucket_policy(name, properties, region):
    call("s3", "put_bucket_policy", region, {"Bucket": properties["Bucket"], "Policy": properties["PolicyDocument"]})
    # moto takes every condition of a policy for true, and would deny all.
    client("s3", region).delete_bucket_policy(Bucket=properties["Bucket"])
    return properties["Bucket"]


def log_stream(name, properties, region):
    call("logs", "create_log_stream", region, lower(properties))
    return properties["LogStreamName"]


def shifts(name, properties, region):
    properties.setdefault("ApplicationName", name)
    call("codedeploy", "create_application", region, lower(properties))
    return properties["ApplicationName"]


def shift(name, properties, region):
    properties.setdefault("DeploymentGroupName", name)
    call("codedeploy", "create_deployment_group", region, lower(properties))
    return properties["DeploymentGroupName"]


def scalable_target(name, properties, region):
    call("application-autoscaling", "register_scalable_target", region, properties)
    return "|".join([properties["ResourceId"], properties["ScalableDimension"], properties["ServiceNamespace"]])


def scaling_policy(name, properties, region):
    resource_id, dimension, namespace = properties.pop("ScalingTargetId").split("|")
    properties |= {"ResourceId": resource_id, "ScalableDimension": dimension, "ServiceNamespace": namespace}
    return call("application-autoscaling", "put_scaling_policy", region, properties)["PolicyARN"]


# moto looks for subclasses, which live as long as somebody holds them.
added = [
    resource("AWS::Lambda::Function", "FunctionName", function, ["Arn"]),
    resource("AWS::S3::Bucket", "BucketName", bucket, ["Arn"]),
    resource("AWS::Kinesis::Stream", "Name", stream, ["Arn"]),
    resource("AWS::ECS::TaskDefinition", "", task_definition),
    resource("AWS::ECS::Service", "ServiceName", service, ["Name"]),
    resource("AWS::Lambda::Version", "", version, ["Version"]),
    resource("AWS::Lambda::Alias", "", alias),
    resource("AWS::Lambda::EventInvokeConfig", "", event_invoke_config),
    resource("AWS::CloudWatch::Alarm", "AlarmName", alarm, ["Arn"]),
    resource("AWS::KinesisFirehose::DeliveryStream", "DeliveryStreamName", delivery_stream, ["Arn"]),
    resource("AWS::S3::BucketPolicy", "", bucket_policy),
    resource("AWS::Logs::LogStream", "LogStreamName", log_stream),
    resource("AWS::CodeDeploy::Application", "ApplicationName", shifts),
    resource("AWS::CodeDeploy::DeploymentGroup", "DeploymentGroupName", shift),
    resource("AWS::ApplicationAutoScaling::ScalableTarget", "", scalable_target),
    resource("AWS::ApplicationAutoScaling::ScalingPolicy", "", scaling_policy),
]


# ------------------------------------------------------------- attributes --
def attributes(model, **values):
    """Gives a type of moto attributes that it lacks."""
    known = getattr(model, "get_cfn_attribute", None)

    def get_cfn_attribute(self, attribute):
        if attribute in values:
            return values[attribute](self)
        return known(self, attribute)

    model.get_cfn_attribute = get_cfn_attribute


attributes(FakeTargetGroup, TargetGroupFullName=lambda group: group.arn.split(":")[-1])
attributes(FakeLoadBalancer, LoadBalancerFullName=lambda balancer: balancer.arn.split(":loadbalancer/")[1])


# ------------------------------------------------------------ change sets --
def new_function(made, old, properties, region):
    code = {key: value for key, value in properties.items() if key == "Code"}
    name = {"FunctionName": properties["FunctionName"]}
    if code["Code"] != old["Code"]:
        call("lambda", "update_function_code", region, name | code["Code"])
    if properties | code != old | code:
        unchangeable = ("Code", "Architectures", "Tags")
        settings = {key: value for key, value in properties.items() if key not in unchangeable}
        call("lambda", "update_function_configuration", region, settings)
    return made


def new_version(made, old, properties, region):
    """A version is replaced, for no property of it can be changed."""
    physical, values = version("", properties, region)
    return type(made)(physical, values)


def new_alias(made, old, properties, region):
    call("lambda", "update_alias", region, properties)
    return made


updates = {
    "AWS::Lambda::Function": new_function,
    "AWS::Lambda::Version": new_version,
    "AWS::Lambda::Alias": new_alias,
}


def properties_of(resources, logical):
    return parsing.clean_json(resources._resource_json_map[logical], resources).get("Properties", {})


def execute_change_set(self, change_set_name, stack_name=None):
    [change_set] = [c for c in self.change_sets.values() if change_set_name in (c.change_set_id, c.change_set_name)]
    stack = self.stacks[change_set.stack_id]
    kind = change_set.change_set_type
    before, properties = stack.resource_map, getattr(stack, "properties", {})
    stack.template, stack.parameters = change_set.template, change_set.parameters
    stack._parse_template()
    stack.resource_map = after = stack._create_resource_map()
    stack.output_map = stack._create_output_map()
    after.load()
    if kind == "UPDATE":
        removed = set(before._resource_json_map) - set(after._resource_json_map)
        if removed:
            raise ValidationError(message=f"nothing is known here of removing {sorted(removed)}")
        after._parsed_resources.update(
            {logical: before[logical] for logical in before._resource_json_map if before[logical] is not None}
        )
        for logical, description in after._resource_json_map.items():
            if logical not in properties:
                continue
            old, new = properties[logical], properties_of(after, logical)
            if old != new:
                if description["Type"] not in updates:
                    raise ValidationError(message=f"nothing is known here of updating {logical}: {old} to {new}")
                made = updates[description["Type"]](after[logical], old, new, stack.region_name)
                made.cf_resource_type, made.logical_resource_id = description["Type"], logical
                after._parsed_resources[logical] = made
    after.create(stack.template_dict)
    conditions = after.lazy_condition_map
    stack.properties = {
        logical: properties_of(after, logical)
        for logical, description in after._resource_json_map.items()
        if "Condition" not in description or conditions[description["Condition"]]
    }
    change_set.execution_status = "EXECUTE_COMPLETE"
    stack.status = f"{kind}_COMPLETE"


backend.execute_change_set = execute_change_set

if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    # moto takes a URL of S3 apart by this name.
    endpoint = f"http://localhost:{server.server_port}"
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    print(endpoint, flush=True)
    server.serve_forever()
