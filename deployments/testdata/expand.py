"""Template in, template out: what CloudFormation makes of a template before it
creates anything, with the code that cfn-lint has for it.

    expand.py TEMPLATE [PARAMETER=VALUE ...]

prints JSON: the loops of AWS::LanguageExtensions are gone.
"""

import json
import sys

import cfnlint.decode.cfn_yaml
import cfnlint.template
from cfnlint.template.transforms._language_extensions import language_extension


def renamed(value, old, new):
    """The value with a key of its objects renamed."""
    if isinstance(value, dict):
        for key in list(value):
            value[new if key == old else key] = renamed(value.pop(key), old, new)
    elif isinstance(value, list):
        for i, member in enumerate(value):
            value[i] = renamed(member, old, new)
    return value


def expand(text, parameters):
    """The template with its loops gone, for these parameters."""
    template = cfnlint.decode.cfn_yaml.loads(text)
    if template.get("Transform") != "AWS::LanguageExtensions":
        return template
    for name, value in parameters.items():
        template["Parameters"][name]["Default"] = value
    # cfn-lint looks into maps by guessing keys, which is enough for a linter.
    renamed(template["Resources"], "Fn::FindInMap", "Kept::FindInMap")
    faults, made = language_extension(cfnlint.template.Template("template", template, ["us-east-1"]))
    if faults:
        raise ValueError("; ".join(fault.message for fault in faults))
    del made["Transform"]
    return renamed(made, "Kept::FindInMap", "Fn::FindInMap")


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    parameters = dict(argument.split("=", 1) for argument in sys.argv[2:])
    json.dump(expand(text, parameters), sys.stdout, indent=1)
