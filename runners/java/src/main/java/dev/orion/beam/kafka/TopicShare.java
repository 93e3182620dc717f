package dev.orion.beam.kafka;

import java.io.Serializable;

/**
 * The subtasks of a job that read one of its topics.
 *
 * <p>A batch holds records of one topic. Up to some hundreds of rows, its cost in Python hardly depends on their
 * number. A subtask should therefore read few topics, with large batches. If the number of subtasks divides the number
 * of topics or vice versa, each subtask gets an equal share of the topics. Otherwise some subtasks would have more to
 * do than others, so all of them read every topic.
 *
 * @param index position of the topic among the job's topics, from 0
 * @param topics number of topics that the job reads; 1 for a topic that all subtasks read
 */
record TopicShare(int index, int topics) implements Serializable {
  TopicShare {
    if (index < 0 || index >= topics) {
      throw new IllegalArgumentException("topic_index is " + index + ", must be from 0 to " + (topics - 1));
    }
  }

  /** Returns the number of the first subtask that reads the topic. */
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
