package org.apache.beam.sdk.io.kafka;

import java.io.Serializable;

/**
 * Which of a job's subtasks read a topic, when the job reads several.
 *
 * <p>What a batch costs Python hardly depends on its rows, as long as they are hundreds, and a batch is of one topic. So
 * a subtask should read few topics: they are dealt out one by one, where the numbers of subtasks and topics divide one
 * another. Where they do not, some subtasks would have more to do than others, and all read every topic.
 *
 * @param index the topic's place among the job's, from 0
 * @param topics how many topics the job reads; 1 for a topic that all subtasks read
 */
record TopicShare(int index, int topics) implements Serializable {
  TopicShare {
    if (index < 0 || index >= topics) {
      throw new IllegalArgumentException("topic_index is " + index + ", must be from 0 to " + (topics - 1));
    }
  }

  /** Returns the first of the subtasks that read the topic. */
  int firstOf(int subtasks) {
    return divides(subtasks) ? index * count(subtasks) % subtasks : 0;
  }

  /** Returns how many subtasks read the topic. */
  int count(int subtasks) {
    return divides(subtasks) ? Math.max(1, subtasks / topics) : subtasks;
  }

  private boolean divides(int subtasks) {
    return subtasks % topics == 0 || topics % subtasks == 0;
  }
}
