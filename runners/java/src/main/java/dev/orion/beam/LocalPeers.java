package dev.orion.beam;

import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.List;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.sdk.options.PipelineOptionsRegistrar;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.Grpc;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.InternalConfigurator;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.InternalConfiguratorRegistry;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.Metadata;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ServerBuilder;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ServerCall;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ServerCall.Listener;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ServerCallHandler;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ServerInterceptor;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.Status;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Refuses whoever asks one of Beam's services from another host.
 *
 * <p>Beam's services listen on all addresses, without a login, and no setting changes that: its expansion service, its
 * job server, and the services of a task manager that Python workers connect to. All their callers are on the same
 * host, and come by its loopback address.
 *
 * <p>gRPC asks the configurators of its registry whenever it builds a server. Beam looks for registrars of pipeline
 * options when it reads the first options of a JVM or of a job, which is before it builds one. So this class is loaded
 * as such a registrar, and adds no options.
 */
public final class LocalPeers implements PipelineOptionsRegistrar, ServerInterceptor {
  private static final Logger LOG = LoggerFactory.getLogger(LocalPeers.class);

  static {
    LocalPeers refusal = new LocalPeers();
    InternalConfigurator ours =
        new InternalConfigurator() {
          @Override
          public void configureServerBuilder(ServerBuilder<?> server) {
            server.intercept(refusal);
          }
        };
    try {
      InternalConfiguratorRegistry.setConfigurators(List.of(ours));
    } catch (IllegalStateException e) {
      LOG.warn("Beam's services answer other hosts, so close their ports to those: {}", e.getMessage());
    }
  }

  @Override
  public Iterable<Class<? extends PipelineOptions>> getPipelineOptions() {
    return List.of();
  }

  @Override
  public <Q, A> Listener<Q> interceptCall(ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    SocketAddress peer = call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
    if (peer instanceof InetSocketAddress remote && !remote.getAddress().isLoopbackAddress()) {
      call.close(Status.PERMISSION_DENIED.withDescription("only processes of this host may ask"), new Metadata());
      return new Listener<>() {};
    }
    return next.startCall(call, headers);
  }
}
