"""Access to DynamoDB, SQS and S3."""
