// Package letters is dead letters on AWS: what the messages of dead letter
// queues look like, whoever wrote them, and the desk where an operator handles
// them, of SQS queues and of the objects that Lambda puts into S3.
//
// It promises that no message is skipped: what nobody understands is a letter
// with the bytes of the message. A message is deleted only when all its letters
// are dealt with, and what a session has received and leaves in the queue is put
// back at its end.
//
// It assumes that nobody else receives from the queue meanwhile: what others
// hold is not seen.
package letters
