#!/bin/sh
# RAM roles for appsnap: a script for the Alibaba Cloud CLI (`aliyun configure` first). Read it, then run it
# by `sh`. The documents between the quotes can as well be pasted into the RAM console.
# What is there already is told as EntityAlreadyExists and stays as it is; a policy is changed by
# `aliyun ram CreatePolicyVersion --SetAsDefault true`.

# trust-function: Function Compute may give the function this role
aliyun ram CreateRole --RoleName appsnap-function --AssumeRolePolicyDocument '{
  "Version": "1",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "sts:AssumeRole",
      "Principal": {
        "Service": [
          "fc.aliyuncs.com"
        ]
      }
    }
  ]
}'

# function: assume the other role; hand an event on to itself
aliyun ram CreatePolicy --PolicyName appsnap-function --PolicyDocument '{
  "Version": "1",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "sts:AssumeRole",
      "Resource": [
        "acs:ram:*:<account>:role/appsnap-snapshots",
        "acs:ram:*:<account>:role/appsnap-verify"
      ]
    },
    {
      "Effect": "Allow",
      "Action": "fc:InvokeFunction",
      "Resource": "acs:fc:<region>:<account>:functions/appsnap"
    }
  ]
}'
aliyun ram AttachPolicyToRole --PolicyType Custom --PolicyName appsnap-function --RoleName appsnap-function

# trust-snapshots: the function's role, and nobody else, may assume this one
aliyun ram CreateRole --RoleName appsnap-snapshots --AssumeRolePolicyDocument '{
  "Version": "1",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "sts:AssumeRole",
      "Principal": {
        "RAM": [
          "acs:ram::<account>:role/appsnap-function"
        ]
      }
    }
  ]
}'

# survey: look at instances, disks and their Cloud Assistant
aliyun ram CreatePolicy --PolicyName appsnap-survey --PolicyDocument '{
  "Version": "1",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": [
        "ecs:DescribeInstances",
        "ecs:DescribeCloudAssistantStatus"
      ],
      "Resource": "acs:ecs:<region>:<account>:instance/*"
    },
    {
      "Effect": "Allow",
      "Action": "ecs:DescribeDisks",
      "Resource": "acs:ecs:<region>:<account>:disk/*"
    }
  ]
}'
aliyun ram AttachPolicyToRole --PolicyType Custom --PolicyName appsnap-survey --RoleName appsnap-snapshots

# protect: run commands on tagged instances; make, see and label snapshot groups
aliyun ram CreatePolicy --PolicyName appsnap-protect --PolicyDocument '{
  "Version": "1",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "ecs:RunCommand",
      "Resource": "acs:ecs:<region>:<account>:instance/*",
      "Condition": {
        "StringEquals": {
          "acs:ResourceTag/appsnap": "allowed"
        }
      }
    },
    {
      "Effect": "Allow",
      "Action": "ecs:RunCommand",
      "Resource": "acs:ecs:<region>:<account>:command/*"
    },
    {
      "Effect": "Allow",
      "Action": [
        "ecs:DescribeInvocations",
        "ecs:DescribeInvocationResults"
      ],
      "Resource": [
        "acs:ecs:<region>:<account>:instance/*",
        "acs:ecs:<region>:<account>:command/*"
      ]
    },
    {
      "Effect": "Allow",
      "Action": "ecs:CreateSnapshotGroup",
      "Resource": [
        "acs:ecs:<region>:<account>:instance/*",
        "acs:ecs:<region>:<account>:disk/*"
      ]
    },
    {
      "Effect": "Allow",
      "Action": "ecs:DescribeSnapshotGroups",
      "Resource": "acs:ecs:<region>:<account>:snapshotgroup/*"
    },
    {
      "Effect": "Allow",
      "Action": "ecs:TagResources",
      "Resource": [
        "acs:ecs:<region>:<account>:snapshot/*",
        "acs:ecs:<region>:<account>:invocation/*"
      ]
    },
    {
      "Effect": "Allow",
      "Action": "ecs:UntagResources",
      "Resource": "acs:ecs:<region>:<account>:snapshot/*"
    }
  ]
}'
aliyun ram AttachPolicyToRole --PolicyType Custom --PolicyName appsnap-protect --RoleName appsnap-snapshots

# check: what only a dry run asks: how many snapshots a disk has, and the plugin's state
aliyun ram CreatePolicy --PolicyName appsnap-check --PolicyDocument '{
  "Version": "1",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": "ecs:DescribeSnapshots",
      "Resource": "acs:ecs:<region>:<account>:snapshot/*"
    },
    {
      "Effect": "Allow",
      "Action": "ecs:ListPluginStatus",
      "Resource": "acs:ecs:<region>:<account>:instance/*"
    }
  ]
}'
aliyun ram AttachPolicyToRole --PolicyType Custom --PolicyName appsnap-check --RoleName appsnap-snapshots

# Then for each instance, with its id in the place of INSTANCE:
#   aliyun ecs TagResources --RegionId <region> --ResourceType instance --ResourceId.1 INSTANCE --Tag.1.Key appsnap --Tag.1.Value allowed
# And s.yaml has to say the same, under vars and props:
#   functionRole: acs:ram::<account>:role/appsnap-function
#   roleArn: acs:ram::<account>:role/appsnap-snapshots
#   functionName: appsnap
